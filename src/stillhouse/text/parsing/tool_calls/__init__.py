"""Parses tool calls in each form that models write."""
