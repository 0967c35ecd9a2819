"""Test machinery: the fake engine."""
