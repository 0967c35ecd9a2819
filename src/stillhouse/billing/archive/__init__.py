"""Moves old requests out of the ledger into files."""
