"""Renders a conversation into a prompt."""
