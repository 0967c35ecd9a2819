"""What is written down of each request: when it was due, what came back, and when."""

from __future__ import annotations

from array import array
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

T = TypeVar("T")

if TYPE_CHECKING:
    Gaps = array[float]
else:  # an array takes no parameters when msgspec looks at it
    Gaps = array

SCHEMA = "stillhouse-bench/1"


class Failure(StrEnum):
    """Why a request has no whole answer; one with a status of its own is ``http_503``."""

    CONNECT = "connect"
    DISCONNECTED = "disconnected"
    TIMEOUT = "timeout"
    #: The server said so in the middle of the stream.
    STREAM_ERROR = "stream_error"
    #: The stream ended in good order, and without an end.
    TRUNCATED = "truncated"
    BAD_ANSWER = "bad_answer"
    #: More would have been in flight than this client allows itself.
    NOT_SENT = "not_sent"
    INTERRUPTED = "interrupted"


class RequestRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """
    One request. Times are seconds from the start of the run.

    Latencies are counted from `intended_s`, when the request was due, and not from `sent_s`: what
    a stalled server or a slow client holds up is part of what a user would have waited.

    Args:
        number: Of the request in its run, in the order in which they were due.
        key: The label of the API key, never the key.
        max_tokens: As asked for.
        is_warmup: Not counted in summaries.
        first_token_s: When the first text came; where none came, the end of the answer.
        gaps_s: From each chunk with text to the next.
        end_s: When the answer was whole, or had failed.
        status: Of HTTP; None where no answer came.
        retry_after: As the server wrote it.
        prompt_tokens: From the server's `usage`, as are the other counts; None where it said
            nothing. Nothing is ever counted in chunks.
        cost_usd: DeepInfra's `estimated_cost`.
        failure: None where the answer is whole.
        message: The server's own words about a failure.

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
        """Whether a whole answer came."""
        return self.failure is None and self.end_s is not None

    @property
    def send_delay_s(self) -> float | None:
        """How long after it was due the client sent it."""
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
        """Inter-token latency as a reader sees it: the mean gap between chunks with text."""
        return sum(self.gaps_s) / len(self.gaps_s) if self.gaps_s else None

    @property
    def max_itl_s(self) -> float | None:
        """The longest gap between chunks with text."""
        return max(self.gaps_s, default=None)

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, by the server's own count of them."""
        if not self.gaps_s or not self.completion_tokens or self.completion_tokens < 2:
            return None
        return sum(self.gaps_s) / (self.completion_tokens - 1)


def encode_json(document: msgspec.Struct) -> bytes:
    """Return a struct as JSON; times have six decimals, which are microseconds."""
    return msgspec.json.encode(document, enc_hook=_plain)


def decode_json(text: bytes, kind: type[T]) -> T:
    """Read what `encode_json` wrote."""
    return msgspec.json.decode(text, type=kind, dec_hook=_gaps)


def _plain(value: Any) -> list[float]:
    assert isinstance(value, array)
    return [round(gap, 6) for gap in value]


def _gaps(_kind: type, value: Any) -> Gaps:
    return array("f", value)
