"""Describes the models that can be served, with their prices."""
