"""Trains and evaluates the demo model stillhouse/demo-tools, which calls tools."""
