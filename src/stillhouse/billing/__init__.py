"""Prices and the hold-settle ledger: what a request costs, and that it is charged exactly once."""
