"""Allocates KV-cache blocks, shares prefixes, evicts blocks."""
