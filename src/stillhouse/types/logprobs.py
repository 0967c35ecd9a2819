"""Defines log probabilities: per step of an engine, and per token of an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepLogprobs:
    """
    How likely one new token was, by the model alone: before penalties, temperature and grammar.

    Args:
        logprob: Natural logarithm of its probability.
        top: The likeliest token ids with their log probabilities, likeliest first.

    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Logprob:
    """
    How likely a token was.

    Args:
        token_bytes: What it stands for; part of a character, sometimes.
        logprob: Natural logarithm of its probability, before temperature and penalties.

    """

    token_id: int
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token of an answer's content, and the likeliest ones at its place, likeliest first."""

    sampled: Logprob
    top: tuple[Logprob, ...] = ()
