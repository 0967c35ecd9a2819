"""Checks keys and scoped tokens."""
