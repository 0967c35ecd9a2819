"""An answer that was given before, told again as if for the first time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from stillhouse.billing.idempotency import Answer, PastRequest
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import ChatEvent, Finish, FinishReason, ServiceTier, TextDelta, TokenUsage


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """
    What every part of an answer carries.

    Args:
        created_s: Unix seconds; when the request was admitted.
        tier: The one that was really used, and that is charged.

    """

    request_id: str
    created_s: int
    model_id: str
    tier: ServiceTier


class Transcript:
    """Writes down what a client is told, for when it asks again."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []

    def add(self, delta: TextDelta) -> None:
        """Write down new text."""
        self._content.append(delta.content)
        self._reasoning.append(delta.reasoning)

    def close(self, reason: FinishReason) -> Answer:
        """The whole of it."""
        return Answer("".join(self._content), "".join(self._reasoning), reason)


class Replay:
    """The answer of a request that has run before; nothing is generated or charged."""

    is_replay = True

    def __init__(self, past: PastRequest) -> None:
        self.head = AnswerHead(past.request_id, past.created_at_ms // 1000, past.model, past.tier)
        self.usage: TokenUsage = past.usage
        self.cost_so_far_picousd: int = past.cost_picousd
        self._answer = past.answer

    async def events(self) -> AsyncIterator[ChatEvent]:
        """Yield the text, reasoning first, then `Finish` with the cost that was charged."""
        for delta in (
            TextDelta(reasoning=self._answer.reasoning),
            TextDelta(content=self._answer.content),
        ):
            if delta:
                yield delta
        reason = FinishReason(self._answer.finish_reason)
        yield Finish(reason, self.usage, self.cost_so_far_picousd)

    def stop(self, outcome: Outcome) -> None:
        """Nothing runs, so nothing ends."""
