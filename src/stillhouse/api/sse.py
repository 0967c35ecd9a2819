"""
Chat completions as server-sent events in DeepInfra's shape.

One event per delta, on the hot path: what does not change within a stream is encoded once.
"""

from __future__ import annotations

import json
from typing import Any

from stillhouse.api import error_body
from stillhouse.api.openai_schema import usage_out
from stillhouse.chat import Finish, TextDelta, TokenUsage
from stillhouse.errors import StillhouseError

DONE = b"data: [DONE]\n\n"


class ChunkEncoder:
    """
    Encodes the events of one stream; all share its id, time and model.

    Args:
        service_tier: The one that was used, where the request has asked for one.

    """

    def __init__(
        self, *, completion_id: str, created: int, model: str, service_tier: str | None = None
    ) -> None:
        tier = f'"service_tier": {json.dumps(service_tier)}, ' if service_tier else ""
        self._head = (
            f'data: {{"id": {json.dumps(completion_id)}, "object": "chat.completion.chunk", '
            f'"created": {created}, "model": {json.dumps(model)}, {tier}"choices": ['
        )

    def opening(self) -> bytes:
        """The first event: the role, and no text yet."""
        return self._event(self._choice('"role": "assistant", "content": ""'), None)

    def delta(
        self, delta: TextDelta, *, usage: TokenUsage | None = None, cost_picousd: int = 0
    ) -> bytes:
        """New text; with *usage* so far where the client asked for it on every chunk."""
        text = f'"content": {json.dumps(delta.content, ensure_ascii=False)}'
        if delta.reasoning:
            reasoning = json.dumps(delta.reasoning, ensure_ascii=False)
            text += f', "reasoning_content": {reasoning}'
        return self._event(self._choice(text), usage_out(usage, cost_picousd) if usage else None)

    def finish(self, finish: Finish, *, has_usage: bool) -> bytes:
        """The event with `finish_reason`, where DeepInfra's clients look for usage and cost."""
        choice = f'{{"index": 0, "delta": {{}}, "finish_reason": "{finish.reason}"}}'
        usage = usage_out(finish.usage, finish.cost_picousd) if has_usage else None
        return self._event(choice, usage)

    def usage(self, finish: Finish) -> bytes:
        """OpenAI's event for usage alone, with no choices."""
        return self._event("", usage_out(finish.usage, finish.cost_picousd))

    @staticmethod
    def _choice(delta: str) -> str:
        return f'{{"index": 0, "delta": {{{delta}}}, "finish_reason": null}}'

    def _event(self, choices: str, usage: dict[str, Any] | None) -> bytes:
        return f'{self._head}{choices}], "usage": {json.dumps(usage)}}}\n\n'.encode()


def error_event(error: StillhouseError) -> bytes:
    """An error after the first byte; no ``[DONE]`` follows it."""
    return b"data: " + error_body.body_of(error) + b"\n\n"
