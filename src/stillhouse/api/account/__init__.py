"""Serves an account's own data: keys, scoped tokens, usage, costs."""
