"""Reads checkpoint files: configuration, tokenizer, weights."""
