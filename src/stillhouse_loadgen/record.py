"""The record of each request: when it was due, what came back, and when."""

from __future__ import annotations

from array import array
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

T = TypeVar("T")

if TYPE_CHECKING:
    Gaps = array[float]
else:  # msgspec reads an array without type parameters
    Gaps = array

SCHEMA = "stillhouse-bench/1"


class Failure(StrEnum):
    """The reason why a request has no complete answer; an HTTP status is ``http_503``."""

    CONNECT = "connect"
    DISCONNECTED = "disconnected"
    TIMEOUT = "timeout"
    #: The server sent an error within the stream.
    STREAM_ERROR = "stream_error"
    #: The stream was closed without a finish reason and without [DONE].
    TRUNCATED = "truncated"
    BAD_ANSWER = "bad_answer"
    #: The client's own limit of requests in flight was reached.
    NOT_SENT = "not_sent"
    INTERRUPTED = "interrupted"


class RequestRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """
    One request. Times are seconds from the start of the run.

    Latencies are counted from `intended_s`, when the request was due, and not from `sent_s`: a
    user would have waited for a stalled server and for a slow client, too.

    Args:
        number: The request's index in its run, in the order in which they were due.
        key: The label of the API key, never the key.
        max_tokens: The field of the request.
        is_warmup: Whether summaries leave it out.
        first_token_s: The time of the first text; without any text, the end of the answer.
        gaps_s: From each chunk with text to the next.
        end_s: When the answer was complete, or had failed.
        status: The HTTP status; None without a response.
        retry_after: The header as the server sent it.
        prompt_tokens: From the server's `usage`, as are the other counts; None without a usage.
            Chunks are never counted as tokens.
        cost_usd: DeepInfra's `estimated_cost`.
        failure: None where the answer is complete.
        message: The server's own error message.

    """

    number: int
    conversation: int
    turn: int
    key: str
    max_tokens: int
    intended_s: float
    is_warmup: bool = False
    sent_s: float | None = None
    first_token_s: float | None = None
    gaps_s: Gaps = msgspec.field(default_factory=lambda: array("f"))
    end_s: float | None = None
    status: int | None = None
    retry_after: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    failure: str | None = None
    message: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete."""
        return self.failure is None and self.end_s is not None

    @property
    def send_delay_s(self) -> float | None:
        """The client's own delay: from when the request was due until it was sent."""
        return None if self.sent_s is None else self.sent_s - self.intended_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, from when the request was due."""
        return None if self.first_token_s is None else self.first_token_s - self.intended_s

    @property
    def e2e_s(self) -> float | None:
        """Time to the end of the answer, from when the request was due."""
        return None if self.end_s is None else self.end_s - self.intended_s

    @property
    def itl_s(self) -> float | None:
        """Inter-token latency: the mean gap between chunks with text."""
        return sum(self.gaps_s) / len(self.gaps_s) if self.gaps_s else None

    @property
    def max_itl_s(self) -> float | None:
        """The longest gap between chunks with text."""
        return max(self.gaps_s, default=None)

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, by the server's own count."""
        if not self.gaps_s or not self.completion_tokens or self.completion_tokens < 2:
            return None
        return sum(self.gaps_s) / (self.completion_tokens - 1)


def encode_json(document: msgspec.Struct) -> bytes:
    """Returns a struct as JSON; times have six decimals, which are microseconds."""
    return msgspec.json.encode(document, enc_hook=_plain)


def decode_json(text: bytes, kind: type[T]) -> T:
    """Returns the struct that `encode_json` wrote."""
    return msgspec.json.decode(text, type=kind, dec_hook=_gaps)


def _plain(value: Any) -> list[float]:
    assert isinstance(value, array)
    return [round(gap, 6) for gap in value]


def _gaps(_kind: type, value: Any) -> Gaps:
    return array("f", value)
