"""Defines the values that every room passes on: messages, sampling, events, usage."""
