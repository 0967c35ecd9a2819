"""Defines the values that all packages pass on: messages, sampling, events, usage."""
