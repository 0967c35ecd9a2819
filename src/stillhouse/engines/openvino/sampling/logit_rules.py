"""Applies a request's logit bias, penalties and grammar before a token is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stillhouse.engines.openvino.sampling.penalties import Penalties

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.sampling.grammar import GrammarMatcher

LARGEST_BIAS = 1e30  # beyond any logit, and far from the end of float32


class LogitRules:
    """
    Applies all rules of one sequence, in vLLM's order: bias, penalties, grammar.

    Args:
        grammar: The matcher of `request.grammar`.

    Attributes:
        grammar: The same; may be replaced by a matcher in the same state.

    """

    def __init__(self, request: GenerateRequest, grammar: GrammarMatcher | None) -> None:
        sampling = request.sampling
        self._penalties = (
            Penalties(sampling, request.prompt_token_ids) if Penalties.are_on(sampling) else None
        )
        self.grammar = grammar
        self._biased_ids = np.array([token_id for token_id, _ in sampling.logit_bias], np.intp)
        biases = np.array([bias for _, bias in sampling.logit_bias], np.float64)
        self._biases = biases.clip(-LARGEST_BIAS, LARGEST_BIAS).astype(np.float32)

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """
        Returns the logits to sample from.

        Args:
            logits: float32, shape (vocabulary,); not changed.

        Raises:
            InvalidRequestError: The grammar takes too much work from here on.

        """
        ruled = logits.copy()
        ruled[self._biased_ids] += self._biases
        if self._penalties is not None:
            self._penalties.apply(ruled)
        if self.grammar is not None:
            self.grammar.apply(ruled)
        return ruled

    def advance(self, token_id: int) -> None:
        """Records a sampled token."""
        if self._penalties is not None:
            self._penalties.count(token_id)
        if self.grammar is not None:
            self.grammar.advance(token_id)


def make_logit_rules(request: GenerateRequest, grammar: GrammarMatcher | None) -> LogitRules | None:
    """Returns the rules that *request* asks for; None where it asks for none."""
    sampling = request.sampling
    if grammar is None and not sampling.logit_bias and not Penalties.are_on(sampling):
        return None
    return LogitRules(request, grammar)
