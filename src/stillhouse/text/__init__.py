"""Turns conversations into tokens, and tokens back into text."""
