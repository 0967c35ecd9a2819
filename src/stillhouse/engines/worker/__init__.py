"""Runs an engine in a supervised child process."""
