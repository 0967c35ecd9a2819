"""Opens SQLite or PostgreSQL."""
