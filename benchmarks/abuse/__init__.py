"""Measures a victim's latencies beside an abusive client."""
