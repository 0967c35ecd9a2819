"""Rows in, rows out: the only room that speaks SQL."""
