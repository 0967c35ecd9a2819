"""Measures and watches the process: metrics, logging, background loops."""
