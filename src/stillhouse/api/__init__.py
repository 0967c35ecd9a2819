"""Serves HTTP: a folder per API dialect, and what all dialects share."""
