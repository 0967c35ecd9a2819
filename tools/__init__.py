"""Programs for the repository itself: its documents, its audits and its demo models."""
