"""Receives request bodies within bounds, and parses large ones in child processes."""
