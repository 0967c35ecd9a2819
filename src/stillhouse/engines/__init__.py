"""Generates tokens; engines know neither keys nor money."""
