"""Lists the served models: abilities, limits, prices, recent rates."""
