"""Parses generated tokens into content, reasoning and tool calls."""
