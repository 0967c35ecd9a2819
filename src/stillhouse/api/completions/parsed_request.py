"""What a body asks for and in which form: all that the readers of bodies know of a dialect."""

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
        keep_alive: What is sent in a silence; clients skip it.

    """

    keep_alive: bytes

    def event(self, event: ChatEvent, completion: ResponseProgress) -> bytes:
        """Bytes of whole events; empty where the dialect says nothing of *event*."""
        ...

    def opening(self) -> bytes:
        """What stands before the first event."""
        ...

    def closing(self) -> bytes:
        """What stands after `Finish`."""
        ...

    def error(self, error: StillhouseError, charged: Finish | None = None) -> bytes:
        """An error after the first byte, with what was charged; nothing follows it."""
        ...


class ResponseWriter(Protocol):
    """How one request wants to be answered."""

    @property
    def is_stream(self) -> bool:
        """Whether it is answered piece by piece."""
        ...

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """The whole answer as JSON."""
        ...

    def event_encoder(self, meta: ResponseMeta) -> EventEncoder:
        """What encodes the answer piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A body that has been read: what it asks for, and how it wants to be answered."""

    request: ChatRequest | TextRequest
    writer: ResponseWriter


def parse_request(
    read: Callable[[bytes, RequestHead], ParsedRequest], head: RequestHead, body: bytes
) -> tuple[ParsedRequest, IdempotencyKey | None]:
    """All that is made of a body, wherever that happens."""
    return read(body, head), head.idempotency_key_of(body)
