"""Answers an account's questions: keys, usage, payment."""
