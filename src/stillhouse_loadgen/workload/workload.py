"""Generates conversations: their start times, keys and text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.workload.distributions import Constant, Distribution
from stillhouse_loadgen.workload.text import rng_of, text_of, words_from

_PREFIX, _CONVERSATION = 0, 1  # the purpose of a random generator
_INPUT_TOKENS, _OUTPUT_TOKENS, _ONE, _NO_PAUSE = map(Constant, (256, 64, 1, 0))


@dataclass(frozen=True, slots=True)
class Turn:
    """
    One question of a conversation.

    Args:
        pause_s: From the end of the previous answer until the question is sent.

    """

    prompt: str
    max_tokens: int
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """
    Consecutive turns; each is sent with the answers to the earlier ones.

    Args:
        start_s: When the first turn is due, from the start of the run; None in a closed loop,
            where it starts when another conversation has ended.

    """

    number: int
    start_s: float | None
    key: LoadKey
    system: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class TextScale:
    """
    Converts words to tokens of the server's tokenizer.

    Args:
        overhead_tokens: The tokens that a chat template adds to a message.

    """

    tokens_per_word: float = 1.0
    overhead_tokens: float = 0.0

    def num_words(self, num_tokens: float) -> int:
        """Returns the number of words of a message of *num_tokens*; at least one."""
        return max(1, round((num_tokens - self.overhead_tokens) / self.tokens_per_word))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticShape:
    """
    The shape of synthetic conversations.

    Args:
        input_tokens: The length of each turn's own message.
        output_tokens: Each turn's `max_tokens`.
        turns: Questions per conversation.
        think_s: From an answer to the next question.
        num_prefixes: Number of system messages that conversations share.
        prefix_tokens: Length of each shared system message.
        prefix_share: Share of the conversations that begin with one, 0 to 1.

    """

    input_tokens: Distribution = _INPUT_TOKENS
    output_tokens: Distribution = _OUTPUT_TOKENS
    turns: Distribution = _ONE
    think_s: Distribution = _NO_PAUSE
    num_prefixes: int = 0
    prefix_tokens: int = 512
    prefix_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.prefix_share <= 1:
            raise ArgumentError(f"--prefix-share is {self.prefix_share}; it must be from 0 to 1")
        if self.num_prefixes < 0 or self.prefix_tokens < 1:
            raise ArgumentError("--prefixes must be 0 or more, and --prefix-length at least 1")


@dataclass(frozen=True, slots=True)
class Extent:
    """The end of a run: after a number of requests or of seconds; None does not end it."""

    num_requests: int | None = None
    duration_s: float | None = None


class SyntheticWorkload:
    """
    Generates endless synthetic conversations; equal seeds give equal ones.

    Args:
        seed: Other seeds give other texts, so that no run hits the prefix-cache entries of another.

    """

    def __init__(
        self, shape: SyntheticShape, scale: TextScale, keys: KeyRing, *, seed: tuple[int, ...]
    ) -> None:
        self._shape = shape
        self._scale = scale
        self._keys = keys
        self._seed = seed
        self._prefixes = [
            self._words(rng_of(*seed, _PREFIX, number), shape.prefix_tokens)
            for number in range(shape.num_prefixes)
        ]

    def conversations(self, starts_s: Iterator[float | None]) -> Iterator[Conversation]:
        """Yields a conversation for each start time."""
        for number, start_s in enumerate(starts_s):
            rng = rng_of(*self._seed, _CONVERSATION, number)
            yield self._conversation(rng, number, start_s)

    def _conversation(
        self, rng: np.random.Generator, number: int, start_s: float | None
    ) -> Conversation:
        shape = self._shape
        key = self._keys.draw(rng)
        system = self._system(rng)
        num_turns = max(1, round(shape.turns.draw(rng)))
        turns = tuple(self._turn(rng, is_first=place == 0) for place in range(num_turns))
        return Conversation(number, start_s, key, system, turns)

    def _system(self, rng: np.random.Generator) -> str | None:
        is_shared, place = rng.random() < self._shape.prefix_share, rng.random()
        if not self._prefixes or not is_shared:
            return None
        return self._prefixes[int(place * len(self._prefixes))]

    def _turn(self, rng: np.random.Generator, *, is_first: bool) -> Turn:
        shape = self._shape
        return Turn(
            prompt=self._words(rng, shape.input_tokens.draw(rng)),
            max_tokens=max(1, round(shape.output_tokens.draw(rng))),
            pause_s=0.0 if is_first else shape.think_s.draw(rng),
        )

    def _words(self, rng: np.random.Generator, num_tokens: float) -> str:
        return text_of(words_from(rng, self._scale.num_words(num_tokens)))


def within(extent: Extent, conversations: Iterator[Conversation]) -> Iterator[Conversation]:
    """Yields the conversations that start within *extent*; the last one may be shortened."""
    num_left = extent.num_requests
    for conversation in conversations:
        if is_over(extent, conversation.start_s) or num_left == 0:
            return
        if num_left is not None and num_left < len(conversation.turns):
            yield replace(conversation, turns=conversation.turns[:num_left])
            return
        yield conversation
        num_left = None if num_left is None else num_left - len(conversation.turns)


def is_over(extent: Extent, at_s: float | None) -> bool:
    """Returns whether the run ends before a request that is due at *at_s*."""
    return at_s is not None and extent.duration_s is not None and at_s >= extent.duration_s
