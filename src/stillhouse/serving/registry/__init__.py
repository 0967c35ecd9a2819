"""Holds the models that are served."""
