"""Encodes a message as server-sent events in Anthropic's order, block by block."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from stillhouse.api.anthropic.response import (
    ID_PREFIX,
    AnthropicMessageOut,
    BlockOut,
    StopOut,
    message_start_out,
    stop_out,
)
from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.sse import escape_line_ends, typed_event
from stillhouse.api.http.usage import AnthropicFinalUsageOut, anthropic_final_usage_out
from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, ChoiceEnd, Finish, TextDelta, ToolCallDelta
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress


class TextDeltaOut(TypedDict):
    """More of a text."""

    type: Literal["text_delta"]
    text: str


class ThinkingDeltaOut(TypedDict):
    """More reasoning."""

    type: Literal["thinking_delta"]
    thinking: str


class SignatureDeltaOut(TypedDict):
    """The end of the reasoning; nothing is signed here."""

    type: Literal["signature_delta"]
    signature: str


class InputJsonDeltaOut(TypedDict):
    """More of a tool's input, as JSON text."""

    type: Literal["input_json_delta"]
    partial_json: str


BlockDeltaOut = TextDeltaOut | ThinkingDeltaOut | SignatureDeltaOut | InputJsonDeltaOut


class AnthropicEventOut(TypedDict):
    """One event of a stream; its type determines its fields."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    ]
    message: NotRequired[AnthropicMessageOut]
    index: NotRequired[int]
    content_block: NotRequired[BlockOut]
    delta: NotRequired[BlockDeltaOut | StopOut]
    usage: NotRequired[AnthropicFinalUsageOut]


def _encode(event: AnthropicEventOut) -> bytes:
    return typed_event(event)


PING = _encode({"type": "ping"})
_STOP = _encode({"type": "message_stop"})


class MessageEncoder:
    """
    Encodes the events of one message.

    Args:
        shows_thinking: Without it, a block of reasoning is sent empty.

    Source:
        docs.anthropic.com, Streaming Messages: each block starts, grows and stops before the next.

    """

    keep_alive = PING

    def __init__(self, meta: ResponseMeta, *, shows_thinking: bool) -> None:
        self._meta = meta
        self._shows_thinking = shows_thinking
        self._has_begun = False
        self._num_blocks = 0
        self._open_type: str | None = None

    def opening(self) -> bytes:
        """Returns nothing: `message_start` needs the cached tokens, which come from the engine."""
        return b""

    def event(self, event: ChatEvent, completion: ResponseProgress) -> bytes:
        """Encodes new text in blocks that it opens and closes; at the end, the reason and usage."""
        start = self._start(completion)
        if isinstance(event, TextDelta):
            return start + self._grow(event)
        if isinstance(event, ChoiceEnd):  # only with several choices, which this dialect lacks
            return start
        return start + self._close_block() + _end(event)

    def closing(self) -> bytes:
        """Returns nothing: the last event marks the end."""
        return b""

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """Encodes an error after the first byte; no ``message_stop`` follows it."""
        request_id = self._meta.request_id.removeprefix(ID_PREFIX)
        body = http_errors.anthropic_body_of(error, request_id=request_id, charged=charged)
        return b"event: error\ndata: " + escape_line_ends(body) + b"\n\n"

    def _start(self, completion: ResponseProgress) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        message = message_start_out(self._meta, completion.usage)
        return _encode({"type": "message_start", "message": message})

    def _grow(self, delta: TextDelta) -> bytes:
        events = b""
        if delta.reasoning:
            events += self._in_block({"type": "thinking", "thinking": "", "signature": ""})
            if self._shows_thinking:
                events += self._delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.content:
            events += self._in_block({"type": "text", "text": ""})
            events += self._delta({"type": "text_delta", "text": delta.content})
        return events + b"".join(self._call(call) for call in delta.tool_calls)

    def _call(self, call: ToolCallDelta) -> bytes:
        events = b""
        if call.id:
            block: BlockOut = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            events = self._close_block() + self._open_block(block)
        if call.arguments:
            events += self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        return events

    def _in_block(self, empty: BlockOut) -> bytes:
        if self._open_type == empty["type"]:
            return b""
        return self._close_block() + self._open_block(empty)

    def _open_block(self, empty: BlockOut) -> bytes:
        self._open_type = empty["type"]
        self._num_blocks += 1
        index = self._num_blocks - 1
        return _encode({"type": "content_block_start", "index": index, "content_block": empty})

    def _delta(self, delta: BlockDeltaOut) -> bytes:
        index = self._num_blocks - 1
        return _encode({"type": "content_block_delta", "index": index, "delta": delta})

    def _close_block(self) -> bytes:
        if self._open_type is None:
            return b""
        is_thinking = self._open_type == "thinking"
        signature = (
            self._delta({"type": "signature_delta", "signature": ""}) if is_thinking else b""
        )
        self._open_type = None
        index = self._num_blocks - 1
        return signature + _encode({"type": "content_block_stop", "index": index})


def _end(finish: Finish) -> bytes:
    usage = anthropic_final_usage_out(finish)
    return _encode({"type": "message_delta", "delta": stop_out(finish), "usage": usage}) + _STOP
