"""Joins text with the log probabilities of the tokens that wrote it."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.text.parsing.text_span import TextSpan, TokenSpan
from stillhouse.types.logprobs import Logprob, StepLogprobs, TokenLogprobs


class LogprobCollector:
    """
    Joins text with the log probabilities of the tokens that wrote it.

    Args:
        token_bytes: The bytes of each token id as text; nothing for control tokens.
        added_bytes: The text of each added token, which names it among log probabilities.

    """

    def __init__(self, token_bytes: Mapping[int, bytes], added_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._added_bytes = added_bytes
        self._pending: list[TokenLogprobs] = []

    def add(self, token_id: int, step: StepLogprobs | None) -> None:
        """Adds a token of the text that comes next; None if the request wants no logprobs."""
        if step is None:
            return
        sampled = self._logprob(token_id, step.logprob)
        top = tuple(self._logprob(*likely) for likely in step.top)
        self._pending.append(TokenLogprobs(sampled, top))

    def span(self, text: str) -> TextSpan:
        """Returns *text*, which the tokens added since the last call have completed."""
        if not self._pending:
            return TextSpan(text)
        # All but the last have written a part of the first character, and nothing behind it.
        *earlier, last = self._pending
        self._pending.clear()
        spans = [*(TokenSpan(0, 1, token) for token in earlier), TokenSpan(0, len(text), last)]
        return TextSpan(text, tuple(spans))

    def _logprob(self, token_id: int, logprob: float) -> Logprob:
        text = self._token_bytes.get(token_id) or self._added_bytes.get(token_id, b"")
        return Logprob(token_id, text, logprob)
