"""Defines the settings and faults of the fake engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.engines.capabilities import Capabilities
from stillhouse.errors import ConfigError

# Ids whose tokens are all letters in the demo model's vocabulary, so that each one is a delta.
DEMO_WORDS = (446, 2040)

#: Penalties and constraints need a model's probabilities, which hashes do not have.
FAKE_CAPABILITIES = Capabilities(
    salted_prefix_cache=True,
    public_prefixes=True,
    priority=True,
    usage_at_abort=True,
    seed=True,
    logit_bias=True,
    max_top_logprobs=20,
)


class FaultKind(StrEnum):
    """The kinds of fault that a request can meet."""

    #: The process ends, with the token made but not sent.
    CRASH = "crash"
    #: The loop hangs, with the token made but not sent.
    HANG = "hang"
    #: The request is refused instead of the token, like one whose grammar fails late.
    REFUSE = "refuse"
    #: A cancel changes nothing.
    IGNORE_CANCEL = "ignore_cancel"
    #: Counts below zero.
    NEGATIVE_USAGE = "negative_usage"
    #: More tokens than any hold covers.
    HUGE_USAGE = "huge_usage"
    #: No counts at all, though there are tokens.
    NO_USAGE = "no_usage"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Describes a fault, and the requests that meet it.

    Args:
        at_token: The fault begins with this token of the completion, the first being 0.
        seed: Only requests with this sampling seed; None is all. So one running server can be
            show many faults, each to the request with its seed.

    """

    kind: FaultKind
    at_token: int = 0
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSettings:
    """
    Configures the fake engine.

    Args:
        checkpoint_dir: Its config.json gives the vocabulary's size and the longest context.
        context_length: Most tokens of one sequence; None takes the checkpoint's.
        word_ids: The first and the last token id that completions are made of.
        first_token_s: Time from a sequence's start to its first token.
        token_interval_s: Time from each token to the next.
        slots: Most sequences at once; others wait.
        num_blocks: Size of the simulated KV cache, which holds no data.
        block_size: Tokens per block; only whole blocks are found cached.
        capabilities: Features that it declares and honours.
        faults: A request meets the first that fits it.
        witness_log: File of every token and every end, synced to the disk, as a witness
            independent of the gateway; None writes nothing.

    Raises:
        ConfigError: A value cannot be honoured.

    """

    checkpoint_dir: Path
    context_length: int | None = None
    word_ids: tuple[int, int] = DEMO_WORDS
    first_token_s: float = 0.0
    token_interval_s: float = 0.0
    slots: int = 64
    num_blocks: int = 4096
    block_size: int = 32
    capabilities: Capabilities = FAKE_CAPABILITIES
    faults: tuple[Fault, ...] = ()
    witness_log: Path | None = None

    def __post_init__(self) -> None:
        first, last = self.word_ids
        if not 0 <= first <= last:
            raise ConfigError(f"word_ids are {first} to {last}; they must rise from 0.")
        for name in ("slots", "num_blocks", "block_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def fault_of(self, seed: int | None) -> Fault | None:
        """Returns the fault that a request with *seed* meets."""
        return next((fault for fault in self.faults if fault.seed in (None, seed)), None)

    def to_json(self) -> str:
        """Returns the settings as a worker's command line carries them."""
        return msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def from_json(cls, text: str) -> FakeSettings:
        """Reads what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls, dec_hook=_path)


def _path(_kind: type, value: Any) -> Path:
    return Path(value)
