"""Writes the random models that benchmarks run."""
