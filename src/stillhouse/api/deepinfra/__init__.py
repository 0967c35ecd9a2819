"""Speaks DeepInfra's native inference API."""
