"""Accounts and the API keys that spend their money."""
