"""Lists the models and their prices."""
