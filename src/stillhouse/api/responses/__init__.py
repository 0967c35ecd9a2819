"""Speaks OpenAI's Responses API."""
