"""Changes the ledger's schema, a file per version."""
