"""Decides what is sent and when."""
