"""Bounds the work of llguidance on a grammar: the same where it is tried and where it runs."""

from __future__ import annotations

from llguidance import LLParserLimits

#: With these, no mask of the grammars that were made to be slow took longer than 0.1 s.
GRAMMAR_LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_items_in_row=1_000,
    max_lexer_states=20_000,  # of 1 to 2 kB
    max_grammar_size=100_000,
    verbose_errors=False,  # which would show the prompt's schema in the log
)
