"""Checks and bounds the JSON Schemas and regular expressions of requests."""
