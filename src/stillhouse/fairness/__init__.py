"""Divides a resource fairly among accounts and their keys."""
