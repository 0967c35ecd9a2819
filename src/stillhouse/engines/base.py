"""Defines the engine seam: tokens in, tokens out; an engine knows no keys, chat or money."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillhouse.engines.capabilities import Capabilities
from stillhouse.types.constraint import PortableConstraint
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage

GREEDY = SamplingParams(temperature=0)


class EngineFinish(StrEnum):
    """Why the engine ended a sequence."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Grammar:
    """
    Constrains a completion to a grammar; an end token is sampled only where it is complete.

    Args:
        text: A grammar as llguidance reads it: a JSON object with the key ``grammars``. It has
            been compiled once, under limits of time and memory, before an engine sees it.
        after_token_id: Applies after the first occurrence of this token; from the start if None.

    """

    text: str
    after_token_id: int | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """
    Asks an engine to continue a sequence.

    Args:
        request_id: Unique among the requests that the engine works on.
        prompt_token_ids: The whole prompt, special tokens included.
        max_tokens: Most tokens to generate; 0 computes the prompt alone.
        sampling: The sampling parameters; greedy by default.
        stop_token_ids: Any of these ends the sequence; it is itself reported and counted.
        cache_salt: Requests share cached prefixes only with requests of the same salt. The empty
            one is a salt like any other: it opens nothing that is another's, nor what is public.
        cache_keys: What keys and values depend on beside the tokens, such as an adapter's id or a
            medium's digest; a cached prefix is shared only by requests with the same ones.
        priority: Lower goes first where not everything fits.
        top_logprobs: Report each new token's log probability, and this many of the likeliest
            ones at its place; None reports none.
        constraint: Constrains the completion, in the form that any engine can read.
        grammar: The same, compiled; an engine takes the one that it can.
        num_public_tokens: The number of tokens at the start of the prompt that are no secret: the
            whole KV blocks that they fill are shared across salts, with every request that declares
            the same tokens public.

    """

    request_id: str
    prompt_token_ids: list[int]
    max_tokens: int
    sampling: SamplingParams = GREEDY
    stop_token_ids: tuple[int, ...] = ()
    cache_salt: str = ""
    cache_keys: tuple[str, ...] = ()
    priority: int = 0
    top_logprobs: int | None = None
    constraint: PortableConstraint | None = None
    grammar: Grammar | None = None
    num_public_tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerateStep:
    """
    What one engine step added to one sequence.

    Args:
        token_ids: New tokens, in order; may be empty in the last step.
        usage: The engine's own count so far, exact at every step.
        finish: Set on the last step, and only there.
        logprobs: One for each new token where the request asks for them, else none.

    """

    token_ids: tuple[int, ...]
    usage: TokenUsage
    finish: EngineFinish | None = None
    logprobs: tuple[StepLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Reports the load of an engine, as its own loop sees it."""

    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_steps: int


class TokenEngine(Protocol):
    """
    Generates tokens for many sequences at once.

    Every implementation passes ``tests/contract/test_engine.py``.
    """

    @property
    def context_length(self) -> int:
        """Most tokens that one sequence can have, prompt and completion together."""
        ...

    @property
    def max_sequences(self) -> int:
        """Most sequences that it works on at once; others wait."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can honour; a request that asks for more is refused at admission."""
        ...

    @property
    def is_serving(self) -> bool:
        """Whether requests are served; false while it starts or restarts."""
        ...

    def on_serving(self, listener: Callable[[], None]) -> None:
        """Calls *listener* whenever requests are served again, after a crash for one."""
        ...

    async def start(self) -> None:
        """
        Loads the model and returns when requests are served.

        Raises:
            CheckpointError: The model's files are missing or not what they should be.

        """
        ...

    async def stop(self) -> None:
        """Ends the engine; sequences still running fail with EngineUnavailableError."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateStep]:
        """
        Yields the sequence's tokens as they are made; the last step carries `finish`.

        Closing the iterator early cancels the sequence as well.

        Raises:
            EngineUnavailableError: The engine is starting, restarting or stopped.
            EngineCrashedError: The engine died during this request.
            RequestTooLargeForEngineError: Its KV cache can never hold the request.
            InvalidRequestError: A value cannot be honoured; or, in the middle of the sequence, its
                grammar takes more work than is allowed.

        """
        ...

    def cancel(self, request_id: str) -> None:
        """
        Stops a sequence within one engine step.

        Its iterator ends with `EngineFinish.CANCELLED` and the exact count of what was generated.
        An unknown or finished request is left alone.
        """
        ...

    async def health(self) -> EngineHealth:
        """
        A round trip through the engine's own loop.

        Raises:
            EngineUnavailableError: The loop did not answer in time.

        """
        ...
