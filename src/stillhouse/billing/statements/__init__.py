"""Sums what was used and charged: monthly statements and usage."""
