"""
Defines the messages between gateway and engine worker, each in one frame.

A frame is a length of four bytes, big-endian, and that many bytes of msgpack. Any worker that
speaks these messages over its socket can serve behind `engine.WorkerEngine`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from stillhouse.engines.base import EngineHealth, GenerateRequest, GenerateStep
from stillhouse.engines.capabilities import Capabilities
from stillhouse.workers.framing import FrameError, frame_length

_Message = TypeVar("_Message")

MAX_FRAME_BYTES = 16 * 1024 * 1024  # a prompt of a million tokens takes 5 MB


class RefusalCode(StrEnum):
    """The reason why a worker refuses or ends a request."""

    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"


class LoadFailure(StrEnum):
    """The kind of mistake that keeps a worker from loading."""

    CHECKPOINT = "checkpoint"
    CONFIG = "config"


# To the worker.


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """
    Start a sequence.

    Args:
        sequence_id: Used once on a connection, so that a late step of an abandoned request can
            never reach a later one that has the same `request_id`.

    """

    sequence_id: int
    request: GenerateRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """End a sequence before its next token; one that is finished is left alone."""

    sequence_id: int


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Check that the engine loop is running."""

    ping_id: int


# To the gateway.


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Reports loading progress; `num_total` is in the stage's own unit (bytes, layers)."""

    stage: str
    num_done: int
    num_total: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """
    Reports that the model is loaded and requests are served.

    Args:
        context_length: Most tokens of one sequence, prompt and completion together.
        num_blocks: Size of the KV cache in blocks, 0 where an engine has none.
        block_size: Tokens per block.
        max_sequences: Most sequences that it works on at once; others wait.
        block_bytes: Memory that a block takes.
        capabilities: Features that the engine supports; only the basics by default.

    """

    context_length: int
    num_blocks: int = 0
    block_size: int = 0
    max_sequences: int = 1
    block_bytes: int = 0
    capabilities: Capabilities = Capabilities()


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """Reports that this worker cannot load until the operator changes something."""

    failure: LoadFailure
    message: str


class Steps(msgspec.Struct, frozen=True, tag="steps"):
    """Carries the results of one engine step for all sequences, by `sequence_id`."""

    steps: list[tuple[int, GenerateStep]]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Reports why a sequence was refused, or why it ended early."""

    sequence_id: int
    code: RefusalCode
    message: str
    param: str | None = None


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """
    Reports the time that a grammar took to compile.

    Args:
        cache_salt: The cache salt of the requests that use the grammar.

    """

    cache_salt: str
    seconds: float


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The engine loop's answer to a ping."""

    ping_id: int
    health: EngineHealth


ToWorker = Generate | Cancel | Ping
ToGateway = Loading | Ready | LoadFailed | Steps | Refused | Compiled | Pong


def encode(message: ToWorker | ToGateway) -> bytes:
    """
    Returns the whole frame of *message*, length included.

    Raises:
        FrameError: The message is too large, or holds an integer beyond 64 bits.

    """
    try:
        body = msgspec.msgpack.encode(message)
    except OverflowError as error:
        raise FrameError(f"A {type(message).__name__} cannot be sent: {error}.") from error
    try:
        return frame_length(len(body), max_bytes=MAX_FRAME_BYTES) + body
    except FrameError as error:
        raise FrameError(f"A {type(message).__name__} cannot be sent: {error}") from error


def decode_to_worker(body: bytes) -> ToWorker:
    """
    Reads a message that the gateway sent.

    Raises:
        FrameError: It is not one.

    """
    return _decode(body, _TO_WORKER)


def decode_to_gateway(body: bytes | bytearray) -> ToGateway:
    """
    Reads a message that the worker sent.

    Raises:
        FrameError: It is not one.

    """
    return _decode(body, _TO_GATEWAY)


def _decode(body: bytes | bytearray, decoder: msgspec.msgpack.Decoder[_Message]) -> _Message:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"Not a message: {error}.") from error


_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_TO_GATEWAY: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(ToGateway)
