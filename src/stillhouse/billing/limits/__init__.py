"""Enforces spending limits, and rate limits that gateways share, in the transaction of a hold."""
