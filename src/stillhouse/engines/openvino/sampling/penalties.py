"""Applies penalties to tokens that have occurred, in time linear in the distinct tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from stillhouse.types.sampling import SamplingParams

FIRST_CAPACITY = 64


class Penalties:
    """
    Penalises the tokens that one sequence already contains.

    The result depends on the tokens alone, so that preemption does not change the output.

    Args:
        prompt: Its tokens count for the repetition penalty, and for no other.

    Source:
        Repetition: CTRL, arXiv 1909.05858. Presence and frequency: OpenAI's API reference. The
        order is vLLM's: repetition first.

    """

    def __init__(self, sampling: SamplingParams, prompt: Iterable[int]) -> None:
        self._repetition = np.float32(sampling.repetition_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        distinct = dict.fromkeys(prompt) if sampling.repetition_penalty != 1 else {}
        self._places = {token_id: place for place, token_id in enumerate(distinct)}
        capacity = max(FIRST_CAPACITY, 2 * len(self._places))
        self._token_ids = np.zeros(capacity, np.intp)
        self._token_ids[: len(self._places)] = list(self._places)
        self._counts = np.zeros(capacity, np.float32)

    @staticmethod
    def are_on(sampling: SamplingParams) -> bool:
        """Returns whether any of them would change a logit."""
        return (
            sampling.repetition_penalty != 1
            or sampling.frequency_penalty != 0
            or sampling.presence_penalty != 0
        )

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Changes *logits*, shape (vocabulary,), in place."""
        num_distinct = len(self._places)
        token_ids, counts = self._token_ids[:num_distinct], self._counts[:num_distinct]
        values = logits[token_ids]
        values = np.where(values > 0, values / self._repetition, values * self._repetition)
        values -= self._frequency * counts
        values -= self._presence * (counts > 0)
        logits[token_ids] = values

    def count(self, token_id: int) -> None:
        """Records a generated token."""
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._token_ids):
            self._token_ids = np.concatenate([self._token_ids, np.zeros_like(self._token_ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._token_ids[place] = token_id
        self._counts[place] += 1
