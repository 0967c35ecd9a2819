"""Constrains sampled tokens to a grammar, with llguidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher

from stillhouse.engines.grammar_limits import GRAMMAR_LIMITS
from stillhouse.engines.openvino.sampling.grammar_thread import GrammarThread
from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLTokenizer
    from numpy.typing import NDArray

    from stillhouse.clock import Clock
    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.sampling.grammar_thread import Compiled

MAX_GRAMMAR_CHARS = 1024 * 1024
MAX_MESSAGE_CHARS = 300
NO_GRAMMARS = (
    "This model takes no grammar: its checkpoint has no tokenizer.json to read the letters of."
)


class Grammars:
    """
    Compiles the grammars of requests in the background, each once per cache salt.

    `want` may be called on any thread, all else on the engine loop's.

    Args:
        vocabulary: From `vocabulary.read_vocabulary`; None refuses every grammar.

    """

    def __init__(self, vocabulary: LLTokenizer | None, clock: Clock) -> None:
        self._vocabulary = vocabulary
        self.thread = GrammarThread(self._compile, clock)

    def want(self, sequence_id: int, request: GenerateRequest) -> None:
        """Queues the grammar of *request*, if any, for compiling; never waits."""
        if request.grammar is not None and self._vocabulary is not None:
            self.thread.want(sequence_id, request.cache_salt, request.grammar.text)

    def want_again(self, sequence_id: int, request: GenerateRequest, begun: Sequence[int]) -> None:
        """Queues a grammar for this sequence alone that has matched the tokens *begun*."""
        assert request.grammar is not None
        self.thread.want(sequence_id, request.cache_salt, request.grammar.text, begun)

    def take(self, sequence_id: int, request: GenerateRequest) -> GrammarMatcher | None:
        """
        Returns the grammar state of *request*; None until its grammar is compiled.

        Raises:
            InvalidRequestError: The grammar cannot be compiled, or takes too much work.

        """
        if self._vocabulary is None:
            raise InvalidRequestError(NO_GRAMMARS)
        compiled = self.thread.take(sequence_id)
        if compiled is None:
            return None
        return GrammarMatcher(compiled, request, vocab_size=self._vocabulary.vocab_size - 1)

    def _compile(self, text: str, begun: Sequence[int]) -> LLMatcher:
        """Returns the matcher of *text* after the tokens *begun*."""
        if len(text) > MAX_GRAMMAR_CHARS:
            raise InvalidRequestError(
                f"The grammar has {len(text)} characters; {MAX_GRAMMAR_CHARS} are allowed."
            )
        assert self._vocabulary is not None
        matcher = LLMatcher(self._vocabulary, text, log_level=0, limits=GRAMMAR_LIMITS)
        if begun:
            matcher.consume_tokens(list(begun))
        _computed_mask(matcher)  # reports a fault of the first mask before the sequence starts
        return matcher


class GrammarMatcher:
    """
    Tracks the position of one sequence in its grammar.

    The state is a function of the consumed tokens, so that preemption does not change the output.

    Args:
        compiled: The grammar, with a vocabulary of one token more than the model's.
        request: Its stop tokens end the sequence, exactly where the grammar is complete.

    Attributes:
        num_matched: Number of the sequence's last tokens that the grammar has consumed.

    """

    def __init__(self, compiled: Compiled, request: GenerateRequest, *, vocab_size: int) -> None:
        assert request.grammar is not None
        assert compiled.matcher is not None
        self._vocab_size = vocab_size
        self._stop_token_ids = [t for t in request.stop_token_ids if 0 <= t < vocab_size]
        self._compiled = compiled
        self.num_matched = len(compiled.begun or ())
        self._begins_after = request.grammar.after_token_id if compiled.begun is None else None
        # Copies share a lexer and its cache.
        self._matcher = compiled.matcher.deep_copy()

    @property
    def is_shared(self) -> bool:
        """Whether other sequences' texts may have failed it, so that a retry alone can succeed."""
        return self._compiled.num_given > 1

    def apply(self, logits: NDArray[np.float32]) -> None:
        """
        Sets the logits of disallowed tokens to minus infinity, in place.

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
        """Consumes a sampled token."""
        if self._begins_after is not None:
            if token_id == self._begins_after:
                self._begins_after = None
        elif token_id not in self._stop_token_ids:
            self._matcher.consume_token(token_id)  # the next mask reports a failure
            self.num_matched += 1

    def _compute_mask(self) -> NDArray[np.bool_]:
        """Returns the allowed tokens, shape (vocabulary + 1,); the last one is the end."""
        mask = np.frombuffer(_computed_mask(self._matcher), np.uint8)
        bits = np.unpackbits(mask, count=self._vocab_size + 1, bitorder="little")
        return bits.view(np.bool_)


def _computed_mask(matcher: LLMatcher) -> bytes:
    """Returns one bit per token; a failed matcher allows the end, so check for failure first."""
    mask = matcher.compute_bitmask()
    if matcher.is_error():
        raise _failure(matcher.get_error())
    return mask


def _failure(reason: str) -> InvalidRequestError:
    first_line = reason.partition("\n")[0][:MAX_MESSAGE_CHARS].rstrip(":. ")
    return InvalidRequestError(
        f"The grammar cannot be followed ({first_line}); it must be valid, and simple enough."
    )
