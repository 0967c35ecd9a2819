"""Repeats a stored response for a request that has run before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from stillhouse.billing.idempotency import PastRequest
from stillhouse.billing.outcome import Outcome
from stillhouse.types.events import (
    ChatEvent,
    ChoiceAnswer,
    ChoiceEnd,
    Finish,
    TextDelta,
    ToolCallDelta,
)
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.usage import TokenUsage


class Replay:
    """Emits the response of a request that has run before; nothing is generated or charged."""

    is_replay = True
    charged = None

    def __init__(self, past: PastRequest) -> None:
        self._choices = past.answer.choices
        self.meta = ResponseMeta(
            past.request_id,
            past.created_at_ms // 1000,
            past.model,
            past.tier,
            n=len(self._choices),
        )
        self.usage: TokenUsage = past.usage
        self.cost_so_far_picousd: int = past.cost_picousd
        self.reasoning_tokens: int = past.answer.reasoning_tokens

    async def events(self) -> AsyncIterator[ChatEvent]:
        """Yields each choice's text, reasoning first, and then the cost that was charged."""
        for choice, answer in enumerate(self._choices):
            for delta in _deltas(answer, choice):
                yield delta
            if choice < len(self._choices) - 1:
                yield ChoiceEnd(answer.reason, choice, answer.stop_string)
            else:
                yield Finish(
                    answer.reason,
                    self.usage,
                    self.cost_so_far_picousd,
                    reasoning_tokens=self.reasoning_tokens,
                    choice=choice,
                    stop_string=answer.stop_string,
                )

    async def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """Yields the events in batches of one, as each can be long."""
        async for event in self.events():
            yield [event]

    def stop(self, outcome: Outcome) -> None:
        """Does nothing: a replay runs nothing."""


def _deltas(answer: ChoiceAnswer, choice: int) -> Iterator[TextDelta]:
    calls = tuple(
        ToolCallDelta(index, call.id, call.name, call.arguments)
        for index, call in enumerate(answer.tool_calls)
    )
    for delta in (
        TextDelta(reasoning=answer.reasoning, choice=choice),
        TextDelta(content=answer.content, logprobs=answer.logprobs, choice=choice),
        TextDelta(tool_calls=calls, choice=choice),
    ):
        if delta:
            yield delta
