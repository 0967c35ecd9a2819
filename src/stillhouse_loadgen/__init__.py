"""Generates load against an OpenAI-compatible server and reports what it measures."""
