"""Chooses which sequences each engine step computes."""
