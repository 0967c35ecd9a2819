"""Generates noise at a set pace, with faults on demand."""
