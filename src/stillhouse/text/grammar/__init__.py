"""Compiles schemas and regular expressions into grammars, within bounds."""
