"""Gathers the next delta of an answer while it is parsed."""

from __future__ import annotations

from stillhouse.types.events import TextDelta, ToolCallDelta
from stillhouse.types.logprobs import TokenLogprobs


class DeltaBuffer:
    """Gathers the next delta of an answer while it is parsed."""

    __slots__ = ("content", "logprobs", "reasoning", "tool_calls")

    def __init__(self) -> None:
        self.content = ""
        self.reasoning = ""
        self.tool_calls: list[ToolCallDelta] = []
        self.logprobs: list[TokenLogprobs] = []

    def take(self, choice: int) -> TextDelta:
        """Returns the delta and empties the buffer."""
        delta = TextDelta(
            self.content, self.reasoning, tuple(self.tool_calls), tuple(self.logprobs), choice
        )
        self.content = self.reasoning = ""
        if delta.tool_calls or delta.logprobs:
            self.tool_calls, self.logprobs = [], []
        return delta
