"""Compares the ledger's tables with each other and with the engines' logs."""
