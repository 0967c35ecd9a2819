"""
Grammars by llguidance: which tokens may come next.

A grammar is compiled for each request anew, in a millisecond mostly: matchers that are copies of
one another share a lexer and its limits, so that one request's text could fail another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits

from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from numpy.typing import NDArray

    from stillhouse.engines.base import Grammar

MAX_GRAMMAR_CHARS = 1024 * 1024
MAX_MESSAGE_CHARS = 300
# With these, no mask of the grammars that were made to be slow took longer than 0.1 s.
LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_items_in_row=1_000,
    max_lexer_states=20_000,  # of 1 to 2 kB
    max_grammar_size=100_000,
    verbose_errors=False,  # which would show the prompt's schema in the log
)


class GrammarMatcher:
    """
    Where in its grammar one sequence is.

    A function of the tokens that it was told, so that a preempted sequence goes on as it would
    have.

    Args:
        tokenizer: From `vocabulary.read_vocabulary`.
        stop_token_ids: They end the sequence, exactly where the grammar is complete.

    Raises:
        InvalidRequestError: The grammar cannot be compiled, or takes too much work.

    """

    def __init__(
        self, tokenizer: LLTokenizer, grammar: Grammar, stop_token_ids: tuple[int, ...]
    ) -> None:
        if len(grammar.text) > MAX_GRAMMAR_CHARS:
            raise InvalidRequestError(
                f"The grammar has {len(grammar.text)} characters; {MAX_GRAMMAR_CHARS} are allowed."
            )
        self._vocab_size = tokenizer.vocab_size - 1
        self._stop_token_ids = [t for t in stop_token_ids if 0 <= t < self._vocab_size]
        self._begins_after = grammar.after_token_id
        self._matcher = LLMatcher(tokenizer, grammar.text, log_level=0, limits=LIMITS)
        self._compute_mask()  # what comes to light at the first token is better told before it

    def apply(self, logits: NDArray[np.float32]) -> None:
        """
        Make what is not allowed impossible: minus infinity in *logits*, in place.

        Raises:
            InvalidRequestError: The grammar takes too much work from here on, or allows nothing.

        """
        if self._begins_after is not None:
            return
        is_allowed = self._compute_mask()
        is_complete = is_allowed[self._vocab_size]
        is_allowed = is_allowed[: self._vocab_size]
        is_allowed[self._stop_token_ids] = is_complete
        if not is_allowed.any():
            raise InvalidRequestError("The grammar allows no token of the model here.")
        np.copyto(logits, -np.inf, where=~is_allowed)

    def advance(self, token_id: int) -> None:
        """Go on by a token that was drawn."""
        if self._begins_after is not None:
            if token_id == self._begins_after:
                self._begins_after = None
        elif token_id not in self._stop_token_ids:
            self._matcher.consume_token(token_id)  # what fails is told by the next mask

    def _compute_mask(self) -> NDArray[np.bool_]:
        """Return what is allowed, shape (vocabulary + 1,); the last one is the end."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise _failure(self._matcher.get_error())
        bits = np.unpackbits(mask, count=self._vocab_size + 1, bitorder="little")
        return bits.view(np.bool_)


def _failure(reason: str) -> InvalidRequestError:
    first_line = reason.partition("\n")[0][:MAX_MESSAGE_CHARS].rstrip(":. ")
    return InvalidRequestError(
        f"The grammar cannot be followed ({first_line}); it must be valid, and simple enough."
    )
