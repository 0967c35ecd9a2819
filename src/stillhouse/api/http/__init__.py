"""Holds what every route shares: authentication, errors, events, description."""
