"""Makes, stores and seals API keys and secrets."""
