"""The words of a chat completion: what is asked, what comes back, and what it used."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Number = TypeVar("Number", int, float)


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """
    How the next token is drawn.

    Args:
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: Draw from the smallest set of likeliest tokens whose mass reaches it; 1 is off.
        top_k: Draw from the `top_k` likeliest tokens; 0 is off.
        min_p: Leave out tokens less likely than `min_p` times the likeliest; 0 is off.
        seed: Same seed, same draws, whatever else runs in the batch; None draws afresh.

    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingWishes:
    """What a request says of sampling; None leaves the choice to the model's recommendation."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None

    def over(self, recommended: SamplingParams) -> SamplingParams:
        """The wishes, with *recommended* wherever nothing was said."""
        return SamplingParams(
            temperature=_first(self.temperature, recommended.temperature),
            top_p=_first(self.top_p, recommended.top_p),
            top_k=_first(self.top_k, recommended.top_k),
            min_p=_first(self.min_p, recommended.min_p),
            seed=self.seed,
        )


def _first(wish: Number | None, recommended: Number) -> Number:
    return recommended if wish is None else wish


class ServiceTier(StrEnum):
    """How soon a request's turn comes, and by how much that changes its price."""

    DEFAULT = "default"
    #: Goes first.
    PRIORITY = "priority"
    #: Waits until there is room.
    FLEX = "flex"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """
    A conversation to be continued by the assistant.

    Args:
        max_tokens: Most tokens to generate; None takes what the context leaves, up to 16384.
        stop: The answer ends before any of these texts.

    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingWishes = SamplingWishes()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tier: ServiceTier = ServiceTier.DEFAULT


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """
    Tokens as the engine counted them.

    Args:
        prompt_tokens: All tokens of the prompt, the cached ones among them.
        cached_tokens: Prompt tokens whose KV blocks were found in the prefix cache.
        completion_tokens: Tokens generated, reasoning and the end token among them.

    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class FinishReason(StrEnum):
    """Why an answer ended, as the client is told."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of an answer; either part may be empty."""

    content: str = ""
    reasoning: str = ""

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning)


@dataclass(frozen=True, slots=True)
class Finish:
    """
    The last event of a completion.

    Args:
        cost_picousd: What was charged, in pico-dollars, durable by now. None where the ledger is
            down: it is charged when it is back, and nobody is told a cost before.

    """

    reason: FinishReason
    usage: TokenUsage
    cost_picousd: int | None


ChatEvent = TextDelta | Finish
