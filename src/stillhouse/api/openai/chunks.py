"""
Encodes OpenAI's streams as server-sent events, with DeepInfra's extensions.

This is the hot path, with an event per delta: what is constant in a stream is encoded once.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.sse import COMMENT, data_event, escape_line_ends
from stillhouse.api.http.usage import UsageOut, usage_out
from stillhouse.api.openai.chat_response import (
    logprobs_out,
    tool_call_delta_out,
)
from stillhouse.api.openai.generation_request import StreamOptions
from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, ChoiceEnd, Finish, TextDelta
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress

DONE = b"data: [DONE]\n\n"


class OpenAIEncoder(ABC):
    """
    Encodes the events of one stream; all have its id, time and model.

    Chat and text completions differ in the choice of a chunk.

    Args:
        object_name: The `object` of each chunk.
        service_tier: The tier that was used, if the request named one.

    """

    keep_alive = COMMENT

    def __init__(
        self,
        meta: ResponseMeta,
        options: StreamOptions,
        *,
        object_name: str,
        service_tier: str | None = None,
    ) -> None:
        tier = f'"service_tier": {json.dumps(service_tier)}, ' if service_tier else ""
        self._prefix = (
            f'data: {{"id": {json.dumps(meta.request_id)}, "object": "{object_name}", '
            f'"created": {meta.created_s}, "model": {json.dumps(meta.model_id)}, {tier}"choices": ['
        )
        self._options = options

    @abstractmethod
    def opening(self) -> bytes:
        """Returns the bytes before the first event."""

    @abstractmethod
    def delta_choice(self, delta: TextDelta) -> str:
        """Encodes the choice of a chunk with new text."""

    @abstractmethod
    def end_choice(self, event: ChoiceEnd | Finish) -> str:
        """Encodes the choice of the chunk that ends a choice."""

    def event(self, event: ChatEvent, completion: ResponseProgress) -> bytes:
        """Encodes new text or an end, with usage as the stream's options request."""
        if isinstance(event, TextDelta):
            return self.chunk(self.delta_choice(event), self._usage_so_far(completion))
        end = self.end_choice(event)
        if isinstance(event, ChoiceEnd):
            return self.chunk(end, self._usage_so_far(completion))
        has_usage = self._options.include_usage is None or self._options.continuous_usage_stats
        usage = usage_out(event.usage, event.cost_picousd, event.reasoning_tokens)
        chunk = self.chunk(end, usage if has_usage else None)
        return chunk + self.chunk("", usage) if self._options.include_usage else chunk

    def closing(self) -> bytes:
        """Returns the end of the stream."""
        return DONE

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """Encodes an error after the first byte; no ``[DONE]`` follows it."""
        return data_event(http_errors.body_of(error, charged=charged))

    def chunk(self, choices: str, usage: UsageOut | None) -> bytes:
        """Encodes one event; *choices* is JSON without its brackets."""
        return escape_line_ends(
            f'{self._prefix}{choices}], "usage": {json.dumps(usage)}}}\n\n'.encode()
        )

    def _usage_so_far(self, completion: ResponseProgress) -> UsageOut | None:
        if not self._options.continuous_usage_stats:
            return None
        return usage_out(
            completion.usage, completion.cost_so_far_picousd, completion.reasoning_tokens
        )


class ChunkEncoder(OpenAIEncoder):
    """Encodes a chat completion."""

    def __init__(
        self,
        meta: ResponseMeta,
        options: StreamOptions,
        *,
        has_logprobs: bool = False,
        service_tier: str | None = None,
    ) -> None:
        super().__init__(
            meta, options, object_name="chat.completion.chunk", service_tier=service_tier
        )
        self._n = meta.n
        self._has_logprobs = has_logprobs

    def opening(self) -> bytes:
        """Encodes the first event of each choice: the role, and no text yet."""
        role = '"role": "assistant", "content": ""'
        return b"".join(self.chunk(_choice(n, role), None) for n in range(self._n))

    def delta_choice(self, delta: TextDelta) -> str:
        """Encodes new text, reasoning and parts of calls."""
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

    def end_choice(self, event: ChoiceEnd | Finish) -> str:
        """Encodes the finish reason without new text."""
        return f'{{"index": {event.choice}, "delta": {{}}, "finish_reason": "{event.reason}"}}'


def _choice(index: int, delta: str, more: str = "") -> str:
    return f'{{"index": {index}, "delta": {{{delta}}}, {more}"finish_reason": null}}'
