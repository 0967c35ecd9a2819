"""Offers the commands."""
