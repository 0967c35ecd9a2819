"""Orders the requests that wait for an engine."""
