"""Builds the whole service from its configuration."""
