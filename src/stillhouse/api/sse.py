"""
Chat completions as server-sent events in DeepInfra's shape.

One event per delta, on the hot path: what does not change within a stream is encoded once.
"""

from __future__ import annotations

import json
from typing import Any

from stillhouse.api import error_body
from stillhouse.api.event_stream import COMMENT
from stillhouse.api.openai_answer import logprobs_out, tool_call_delta_out, usage_out
from stillhouse.api.openai_request import StreamOptions
from stillhouse.chat import ChatEvent, ChoiceEnd, Finish, TextDelta
from stillhouse.errors import StillhouseError
from stillhouse.serving.completion import Completion
from stillhouse.serving.replay import AnswerHead, Replay

DONE = b"data: [DONE]\n\n"


class ChunkEncoder:
    """
    Encodes the events of one stream; all share its id, time and model.

    Args:
        service_tier: The one that was used, where the request has asked for one.

    """

    keep_alive = COMMENT

    def __init__(
        self,
        head: AnswerHead,
        options: StreamOptions,
        *,
        has_logprobs: bool = False,
        service_tier: str | None = None,
    ) -> None:
        tier = f'"service_tier": {json.dumps(service_tier)}, ' if service_tier else ""
        self._head = (
            f'data: {{"id": {json.dumps(head.request_id)}, "object": "chat.completion.chunk", '
            f'"created": {head.created_s}, "model": {json.dumps(head.model_id)}, {tier}"choices": ['
        )
        self._n = head.n
        self._options = options
        self._has_logprobs = has_logprobs

    def opening(self) -> bytes:
        """The first event of each answer: the role, and no text yet."""
        role = '"role": "assistant", "content": ""'
        return b"".join(self._event(_choice(n, role), None) for n in range(self._n))

    def event(self, event: ChatEvent, completion: Completion | Replay) -> bytes:
        """New text, or an end; usage stands where the stream's options put it."""
        if isinstance(event, TextDelta):
            return self._event(self._delta(event), self._usage_so_far(completion))
        if isinstance(event, ChoiceEnd):
            return self._event(_end(event), self._usage_so_far(completion))
        has_usage = self._options.include_usage is None or self._options.continuous_usage_stats
        usage = usage_out(event.usage, event.cost_picousd, event.reasoning_tokens)
        chunk = self._event(_end(event), usage if has_usage else None)
        return chunk + self._event("", usage) if self._options.include_usage else chunk

    def closing(self) -> bytes:
        """The end of the stream."""
        return DONE

    def error(self, error: StillhouseError) -> bytes:
        """An error after the first byte; no ``[DONE]`` follows it."""
        return b"data: " + error_body.body_of(error) + b"\n\n"

    def _delta(self, delta: TextDelta) -> str:
        text = f'"content": {json.dumps(delta.content, ensure_ascii=False)}'
        if delta.reasoning:
            reasoning = json.dumps(delta.reasoning, ensure_ascii=False)
            text += f', "reasoning_content": {reasoning}'
        if delta.tool_calls:
            calls = [tool_call_delta_out(call) for call in delta.tool_calls]
            text += f', "tool_calls": {json.dumps(calls, ensure_ascii=False)}'
        if not self._has_logprobs:
            return _choice(delta.choice, text)
        logprobs = json.dumps(logprobs_out(delta.logprobs), ensure_ascii=False)
        return _choice(delta.choice, text, f'"logprobs": {logprobs}, ')

    def _usage_so_far(self, completion: Completion | Replay) -> dict[str, Any] | None:
        if not self._options.continuous_usage_stats:
            return None
        return usage_out(
            completion.usage, completion.cost_so_far_picousd, completion.reasoning_tokens
        )

    def _event(self, choices: str, usage: dict[str, Any] | None) -> bytes:
        return f'{self._head}{choices}], "usage": {json.dumps(usage)}}}\n\n'.encode()


def _choice(index: int, delta: str, more: str = "") -> str:
    return f'{{"index": {index}, "delta": {{{delta}}}, {more}"finish_reason": null}}'


def _end(event: ChoiceEnd | Finish) -> str:
    return f'{{"index": {event.choice}, "delta": {{}}, "finish_reason": "{event.reason}"}}'
