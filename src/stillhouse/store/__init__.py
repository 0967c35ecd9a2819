"""Stores everything in SQL; no other folder knows SQL."""
