"""Holds test machinery: the fake engine, and failpoints."""
