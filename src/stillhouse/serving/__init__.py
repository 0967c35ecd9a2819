"""Runs requests: admission, queue, engine, settlement."""
