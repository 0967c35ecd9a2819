"""Reads a streamed answer: server-sent events, and OpenAI's chunks in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from stillhouse_loadgen.record import Failure, RequestRecord

_MAX_EVENT_BYTES = 1 << 24
_MAX_MESSAGE = 300  # characters kept of a server's error
_DONE = b"[DONE]"


class EventTooLongError(Exception):
    """An event is longer than any answer needs."""


class EventReader:
    """
    Parses server-sent events from bytes that may be split anywhere.

    Source:
        https://html.spec.whatwg.org/multipage/server-sent-events.html

    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> Iterator[bytes]:
        """
        Yields the data of every event that is now complete.

        Raises:
            EventTooLongError: A line has more bytes than any answer needs.

        """
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > _MAX_EVENT_BYTES:
            raise EventTooLongError
        for line in lines:
            field = line.removesuffix(b"\r")
            if field.startswith(b"data:"):
                self._data.append(field[5:].removeprefix(b" "))
            elif not field and self._data:
                yield b"\n".join(self._data)
                self._data.clear()


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None

    @property
    def has_tokens(self) -> bool:
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated_cost: float | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class ResponseStream:
    """
    Parses a stream and writes its times, counts and end into a record.

    Attributes:
        text: The content, for the next turn; reasoning is not sent back.

    """

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._events = EventReader()
        self._last_token_s: float | None = None
        self._text: list[str] = []
        self._is_done = False

    @property
    def text(self) -> str:
        """The content received so far."""
        return "".join(self._text)

    def feed(self, received: bytes, now_s: float) -> None:
        """Parses bytes that were received *now_s* seconds after the start of the run."""
        try:
            for data in self._events.feed(received):
                self._take_event(data, now_s)
        except (msgspec.DecodeError, UnicodeDecodeError, EventTooLongError) as error:
            self._fail(Failure.BAD_ANSWER, str(error) or "an event is longer than 16 MiB")

    def end(self, now_s: float) -> None:
        """Records the end of the connection, and whether the stream was complete."""
        record = self._record
        record.end_s = now_s
        if record.failure is None and record.finish_reason is None and not self._is_done:
            self._fail(Failure.TRUNCATED, "the stream ended without finish_reason or [DONE]")

    def _take_event(self, data: bytes, now_s: float) -> None:
        if data == _DONE:
            self._is_done = True
            return
        chunk = _decoder.decode(data)
        if chunk.error is not None:
            self._fail(Failure.STREAM_ERROR, error_message(chunk.error))
        for choice in chunk.choices:
            self._take_choice(choice, now_s)
        if chunk.usage is not None:
            self._take_usage(chunk.usage)

    def _take_choice(self, choice: _Choice, now_s: float) -> None:
        if choice.finish_reason is not None:
            self._record.finish_reason = choice.finish_reason
        if choice.delta.has_tokens:
            self._take_token(now_s)
            self._text.append(choice.delta.content or "")
        elif choice.finish_reason is not None and self._record.first_token_s is None:
            self._record.first_token_s = now_s  # an answer without text has been answered, too

    def _take_token(self, now_s: float) -> None:
        if self._last_token_s is None:
            self._record.first_token_s = now_s
        else:
            self._record.gaps_s.append(now_s - self._last_token_s)
        self._last_token_s = now_s

    def _take_usage(self, usage: _Usage) -> None:
        record, details = self._record, usage.prompt_tokens_details
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        record.cost_usd = usage.estimated_cost
        record.cached_tokens = details.cached_tokens if details else None

    def _fail(self, failure: Failure, message: str) -> None:
        if self._record.failure is None:
            self._record.failure = failure.value
            self._record.message = message[:_MAX_MESSAGE]


def error_message(error: Any) -> str:
    """Returns the message of an error in OpenAI's envelope, or the error as text."""
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])[:_MAX_MESSAGE]
    return str(error)[:_MAX_MESSAGE]


def refusal_message(body: bytes) -> str:
    """Returns the message in the body of an error response."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:_MAX_MESSAGE].decode(errors="replace")
    is_envelope = isinstance(decoded, dict) and "error" in decoded
    return error_message(decoded["error"] if is_envelope else decoded)
