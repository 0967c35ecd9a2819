"""Holds: reserves, resolves, renews and sweeps them."""
