"""Proposes draft tokens and accepts or rejects them."""
