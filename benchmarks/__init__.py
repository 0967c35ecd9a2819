"""Measures the service, its engine and its ledger; each module is a command."""
