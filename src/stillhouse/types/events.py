"""Defines the events that an answer consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stillhouse.types.logprobs import TokenLogprobs
from stillhouse.types.messages import ToolCall
from stillhouse.types.usage import TokenUsage


class FinishReason(StrEnum):
    """The reason for which an answer ended, as clients receive it."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """
    A tool call, or the next piece of its arguments.

    Args:
        index: Which call of the answer, from 0.
        id: Empty but in the call's first delta, as is `name`.

    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """
    The next piece of an answer; any part may be empty.

    Args:
        choice: Which of the request's answers, from 0.

    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    choice: int = 0

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tool_calls or self.logprobs)


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """
    The end of one of several answers, while others go on.

    Args:
        stop_string: The one that ended it, where one did.

    """

    reason: FinishReason
    choice: int = 0
    stop_string: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """
    The last event of a completion: its last answer has ended.

    Args:
        cost_picousd: What was charged, in pico-dollars, durable by now. None where the ledger is
            down: it is charged when it is back, and the client gets no cost.
        reasoning_tokens: How many of the completion's tokens were reasoning.
        choice: Which answer was the last to end.
        stop_string: The one that ended it, where one did.
        runtime_ms: From admission to the last token; 0 in a replay.

    """

    reason: FinishReason
    usage: TokenUsage
    cost_picousd: int | None
    reasoning_tokens: int = 0
    choice: int = 0
    stop_string: str | None = None
    runtime_ms: int = 0


ChatEvent = TextDelta | ChoiceEnd | Finish


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """One whole answer, joined from its deltas."""

    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprobs, ...]
    reason: FinishReason
    stop_string: str | None = None
