"""Grammars by llguidance: which tokens may come next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits

from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from numpy.typing import NDArray

    from stillhouse.engines.base import GenerateRequest, Grammar

MAX_GRAMMAR_CHARS = 1024 * 1024
MAX_MESSAGE_CHARS = 300
NO_GRAMMARS = (
    "This model takes no grammar: its checkpoint has no tokenizer.json to read the letters of."
)
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


class Grammars:
    """
    Compiles the grammars of requests, each in a millisecond mostly.

    Each request has a compiled grammar of its own: copies share a lexer and its limits, so that
    one customer's text could fail another's. Only the answers of one request, which come one right
    after the other, have copies of one.

    Args:
        vocabulary: From `vocabulary.read_vocabulary`; None refuses every grammar.

    """

    def __init__(self, vocabulary: LLTokenizer | None) -> None:
        self._vocabulary = vocabulary
        self._last: tuple[tuple[str, str], LLMatcher] | None = None

    def matcher_of(self, request: GenerateRequest) -> GrammarMatcher | None:
        """
        Return where *request* begins in its grammar; None where it has none.

        Raises:
            InvalidRequestError: The grammar cannot be compiled, or takes too much work.

        """
        if request.grammar is None:
            return None
        if self._vocabulary is None:
            raise InvalidRequestError(NO_GRAMMARS)
        key = (request.request_id.partition("/")[0], request.grammar.text)
        if self._last is None or self._last[0] != key:
            self._last = (key, _compile(self._vocabulary, request.grammar.text))
        return GrammarMatcher(
            self._last[1].deep_copy(),
            request.grammar,
            request.stop_token_ids,
            vocab_size=self._vocabulary.vocab_size - 1,
        )


class GrammarMatcher:
    """
    Where in its grammar one sequence is.

    A function of the tokens that it was told, so that a preempted sequence goes on as it would
    have.

    Args:
        matcher: Of the grammar's text, with a vocabulary of one token more than the model's.
        stop_token_ids: They end the sequence, exactly where the grammar is complete.

    """

    def __init__(
        self,
        matcher: LLMatcher,
        grammar: Grammar,
        stop_token_ids: tuple[int, ...],
        *,
        vocab_size: int,
    ) -> None:
        self._vocab_size = vocab_size
        self._stop_token_ids = [t for t in stop_token_ids if 0 <= t < vocab_size]
        self._begins_after = grammar.after_token_id
        self._matcher = matcher

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
        mask = np.frombuffer(_computed_mask(self._matcher), np.uint8)
        bits = np.unpackbits(mask, count=self._vocab_size + 1, bitorder="little")
        return bits.view(np.bool_)


def _compile(vocabulary: LLTokenizer, text: str) -> LLMatcher:
    if len(text) > MAX_GRAMMAR_CHARS:
        raise InvalidRequestError(
            f"The grammar has {len(text)} characters; {MAX_GRAMMAR_CHARS} are allowed."
        )
    matcher = LLMatcher(vocabulary, text, log_level=0, limits=LIMITS)
    _computed_mask(matcher)  # what comes to light at the first token is better told before it
    return matcher


def _computed_mask(matcher: LLMatcher) -> bytes:
    """Return one bit for each token; a matcher that has failed allows the end, so ask it first."""
    mask = matcher.compute_bitmask()
    if matcher.is_error():
        raise _failure(matcher.get_error())
    return mask


def _failure(reason: str) -> InvalidRequestError:
    first_line = reason.partition("\n")[0][:MAX_MESSAGE_CHARS].rstrip(":. ")
    return InvalidRequestError(
        f"The grammar cannot be followed ({first_line}); it must be valid, and simple enough."
    )
