"""Defines log probabilities: per step of an engine, and per token of an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepLogprobs:
    """
    The probability of one new token by the model alone: before penalties, temperature and grammar.

    Args:
        logprob: Natural logarithm of its probability.
        top: The likeliest token ids with their log probabilities, likeliest first.

    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Logprob:
    """
    The probability of a token.

    Args:
        token_bytes: Its text, which may be a part of a character.
        logprob: Natural logarithm of its probability, before temperature and penalties.

    """

    token_id: int
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token of an answer's content, and the likeliest tokens in its position, likeliest first."""

    sampled: Logprob
    top: tuple[Logprob, ...] = ()
