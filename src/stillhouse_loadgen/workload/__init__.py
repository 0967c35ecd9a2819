"""Generates the conversations of a load: their text, lengths and start times."""
