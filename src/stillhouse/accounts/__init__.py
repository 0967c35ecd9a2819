"""Knows accounts, their keys and what each may do."""
