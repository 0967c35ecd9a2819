"""Trains and evaluates the demo model stillhouse/demo-r1."""
