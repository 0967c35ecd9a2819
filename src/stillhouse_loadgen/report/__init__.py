"""Summarises, tabulates and plots a run."""
