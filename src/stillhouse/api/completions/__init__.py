"""Generates completions and counts prompt tokens: the endpoints that all API dialects share."""
