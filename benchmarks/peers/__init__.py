"""Compares stillhouse with other servers on the same weights."""
