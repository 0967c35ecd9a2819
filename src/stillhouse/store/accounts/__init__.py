"""Reads and writes the rows of accounts, keys and scopes."""
