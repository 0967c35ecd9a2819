"""Accumulates the events of a response, for a body in one piece and for repetitions."""

from __future__ import annotations

from dataclasses import dataclass, field

from stillhouse.types.events import (
    ChatEvent,
    ChoiceAnswer,
    ChoiceEnd,
    Finish,
    TextDelta,
    ToolCallDelta,
)
from stillhouse.types.logprobs import TokenLogprobs
from stillhouse.types.messages import ToolCall


@dataclass(slots=True)
class _OpenCall:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _OpenChoice:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[_OpenCall] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    end: ChoiceEnd | Finish | None = None


class ResponseAccumulator:
    """
    Joins the events of a response into whole choices.

    Args:
        n: The number of choices.

    """

    def __init__(self, n: int) -> None:
        self._choices = [_OpenChoice() for _ in range(n)]

    def add(self, event: ChatEvent) -> None:
        """Adds the next event."""
        choice = self._choices[event.choice]
        if not isinstance(event, TextDelta):
            choice.end = event
            return
        choice.content.append(event.content)
        choice.reasoning.append(event.reasoning)
        choice.logprobs += event.logprobs
        for delta in event.tool_calls:
            _add_call(choice.tool_calls, delta)

    def close(self) -> tuple[ChoiceAnswer, ...]:
        """Returns the whole choices, once each has had its end."""
        return tuple(_close(choice) for choice in self._choices)


def _add_call(calls: list[_OpenCall], delta: ToolCallDelta) -> None:
    if delta.index == len(calls):
        calls.append(_OpenCall(delta.id, delta.name))
    calls[delta.index].arguments.append(delta.arguments)


def _close(choice: _OpenChoice) -> ChoiceAnswer:
    assert choice.end is not None, "a choice is read before its end. This is a bug."
    return ChoiceAnswer(
        content="".join(choice.content),
        reasoning="".join(choice.reasoning),
        tool_calls=tuple(
            ToolCall(call.id, call.name, "".join(call.arguments)) for call in choice.tool_calls
        ),
        logprobs=tuple(choice.logprobs),
        reason=choice.end.reason,
        stop_string=choice.end.stop_string,
    )
