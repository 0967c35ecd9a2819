"""Defines the commands."""
