"""Reads and validates request bodies."""
