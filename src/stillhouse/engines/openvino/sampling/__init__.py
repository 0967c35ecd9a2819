"""Samples tokens under penalties and grammars."""
