"""Speaks HTTP: every API dialect, its errors and its streams."""
