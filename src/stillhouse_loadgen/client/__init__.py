"""Sends requests and measures their streams."""
