"""Builds a model's graph and loads its weights."""
