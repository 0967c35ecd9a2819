"""The parsed body of any dialect: the request, and the writer of its response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, ChoiceAnswer, Finish
from stillhouse.types.requests import ChatRequest, TextRequest
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress


class EventEncoder(Protocol):
    """
    Encodes the events of one stream.

    Attributes:
        keep_alive: Bytes to send in a silence; clients skip them.

    """

    keep_alive: bytes

    def event(self, event: ChatEvent, completion: ResponseProgress) -> bytes:
        """Encodes *event* as whole server-sent events; empty if the dialect has none for it."""
        ...

    def opening(self) -> bytes:
        """Returns the bytes before the first event."""
        ...

    def closing(self) -> bytes:
        """Returns the bytes after `Finish`."""
        ...

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """Encodes an error after the first byte, with the charge; nothing follows it."""
        ...


class ResponseWriter(Protocol):
    """Encodes the response to one request in its dialect."""

    @property
    def is_stream(self) -> bool:
        """Whether the response is a stream."""
        ...

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        ...

    def event_encoder(self, meta: ResponseMeta) -> EventEncoder:
        """Returns the encoder of the stream."""
        ...


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed body: the request, and the writer of its response."""

    request: ChatRequest | TextRequest
    writer: ResponseWriter


def parse_request(
    read: Callable[[bytes, RequestHead], ParsedRequest], head: RequestHead, body: bytes
) -> tuple[ParsedRequest, IdempotencyKey | None]:
    """Parses a body and its idempotency key, in this process or in a child."""
    return read(body, head), head.idempotency_key_of(body)
