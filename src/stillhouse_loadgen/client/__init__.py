"""Sends chat completions over HTTP and measures their streams."""
