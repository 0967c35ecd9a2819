"""Defines sampling parameters, and the overrides that a request holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """
    The parameters by which the next token is sampled.

    Args:
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: Sample from the smallest set of likeliest tokens whose mass reaches it; 1 is off.
        top_k: Sample from the `top_k` likeliest tokens; 0 is off.
        min_p: Leave out tokens less likely than `min_p` times the likeliest; 0 is off.
        seed: The same seed gives the same tokens, whatever else runs in the batch; None is random.
        presence_penalty: Taken from the logit of each token that was generated; 0 is off.
        frequency_penalty: The same, times how often it was generated.
        repetition_penalty: Logits of all tokens in prompt and completion are divided by it where
            they are positive, else multiplied; 1 is off (CTRL, arXiv 1909.05858).
        logit_bias: Token ids, and what is added to their logits.

    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingOverrides:
    """The sampling parameters that a request sets; None takes the model's recommendation."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def over(self, recommended: SamplingParams) -> SamplingParams:
        """Returns the overrides, with *recommended* wherever the request sets nothing."""
        return SamplingParams(
            temperature=_first(self.temperature, recommended.temperature),
            top_p=_first(self.top_p, recommended.top_p),
            top_k=_first(self.top_k, recommended.top_k),
            min_p=_first(self.min_p, recommended.min_p),
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
        )


def _first(override: Number | None, recommended: Number) -> Number:
    return recommended if override is None else override
