"""Runs models on CPUs with OpenVINO."""
