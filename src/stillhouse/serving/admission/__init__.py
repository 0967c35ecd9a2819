"""Admits or refuses requests: rate limits, slots, quarantine."""
