"""Stores everything in SQL; no other room knows SQL."""
