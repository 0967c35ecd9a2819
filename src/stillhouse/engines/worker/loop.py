"""Runs an engine in its worker: loads it, reports progress, and serves the gateway."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from stillhouse.engines.base import EngineHealth, GenerateRequest, GenerateStep
from stillhouse.engines.capabilities import Capabilities
from stillhouse.engines.worker.channel import WorkerChannel
from stillhouse.engines.worker.frames import (
    Cancel,
    Compiled,
    Generate,
    LoadFailed,
    LoadFailure,
    Loading,
    Ping,
    Pong,
    Ready,
    RefusalCode,
    Refused,
    Steps,
)
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
    UnsupportedFeatureError,
)
from stillhouse.workers.child import die_with_parent

#: Results of sequences: the step to send, or the reason why there is no further one.
SequenceSteps = list[tuple[int, GenerateStep | InvalidRequestError]]


class Runner(Protocol):
    """
    Defines an engine without its process: sequences in, tokens out.

    One thread, the loop's, calls all of it but `prepare` and `close`.

    Attributes:
        wake: Callback for any thread, to report work that the loop does not know of.

    """

    context_length: int
    wake: Callable[[], None]

    @property
    def capabilities(self) -> Capabilities:
        """The features that the engine supports."""
        ...

    @property
    def max_sequences(self) -> int:
        """Most sequences that run at once."""
        ...

    @property
    def block_size(self) -> int:
        """Tokens per block of the KV cache."""
        ...

    @property
    def block_bytes(self) -> int:
        """Memory that a block takes."""
        ...

    @property
    def health(self) -> EngineHealth:
        """The engine's current load and counters."""
        ...

    @property
    def idle_s(self) -> float | None:
        """Seconds until the next work if no message arrives; None means never."""
        ...

    def prepare(self, sequence_id: int, request: GenerateRequest) -> None:
        """Starts a request's preparations on the receiving thread; never waits."""
        ...

    def add(self, sequence_id: int, request: GenerateRequest) -> None:
        """
        Takes a request; its steps come under *sequence_id*, which must be higher than all before.

        Raises:
            InvalidRequestError: A value cannot be honoured.
            RequestTooLargeForEngineError: It can never fit.

        """
        ...

    def cancel(self, sequence_id: int) -> SequenceSteps:
        """Ends a sequence and returns its last step, or nothing if it has ended before."""
        ...

    def step(self, receive: Callable[[], None]) -> SequenceSteps:
        """
        Computes one engine step, and returns its results.

        Args:
            receive: May be called once in the middle, before any token is sampled: a sequence
                cancelled there gets no further token.

        """
        ...

    def take_compile_times(self) -> list[tuple[str, float]]:
        """Returns the seconds spent on grammars since the last call, by cache salt."""
        ...

    def close(self) -> None:
        """Finishes pending work within seconds, before the process ends."""
        ...


class EngineLoop:
    """Receives messages, steps the engine while there is work, and sleeps otherwise."""

    def __init__(self, channel: WorkerChannel, runner: Runner) -> None:
        self._channel = channel
        self._runner = runner
        self._steps: SequenceSteps = []

    def run_forever(self) -> None:
        """Serves until the process ends with its gateway."""
        while True:
            self._receive(self._runner.idle_s)
            self._steps += self._runner.step(self._receive)
            self._tell()

    def _receive(self, timeout_s: float | None = 0.0) -> None:
        for message in self._channel.receive(timeout_s):
            match message:
                case Generate():
                    self._add(message)
                case Cancel():
                    self._steps += self._runner.cancel(message.sequence_id)
                case Ping():
                    self._channel.send(Pong(message.ping_id, self._runner.health))

    def _add(self, message: Generate) -> None:
        try:
            self._runner.add(message.sequence_id, message.request)
        except InvalidRequestError as error:
            self._channel.send(refusal(message.sequence_id, error))

    def _tell(self) -> None:
        steps = [
            (sequence_id, step)
            for sequence_id, step in self._steps
            if not isinstance(step, InvalidRequestError)
        ]
        if steps:
            self._channel.send(Steps(steps))
        for sequence_id, step in self._steps:
            if isinstance(step, InvalidRequestError):
                self._channel.send(refusal(sequence_id, step))
        self._steps.clear()
        for cache_salt, seconds in self._runner.take_compile_times():
            self._channel.send(Compiled(cache_salt, seconds))


def refusal(sequence_id: int, error: InvalidRequestError) -> Refused:
    """Returns the message that carries *error* to the gateway."""
    code = RefusalCode.INVALID
    if isinstance(error, RequestTooLargeForEngineError):
        code = RefusalCode.TOO_LARGE
    elif isinstance(error, UnsupportedFeatureError):
        code = RefusalCode.UNSUPPORTED
    return Refused(sequence_id, code, error.message, error.param)


def run_worker(load: Callable[[Callable[[Loading], None]], Runner], socket_number: str) -> None:
    """
    Runs a worker until the process ends with its gateway.

    Args:
        load: Loads the engine and reports its progress; raises CheckpointError or ConfigError.
        socket_number: The last argument of the command line.

    """
    die_with_parent()
    channel = WorkerChannel(socket.socket(fileno=int(socket_number)))
    try:
        runner = load(channel.send)
    except CheckpointError as error:
        channel.send(LoadFailed(LoadFailure.CHECKPOINT, error.message))
        return
    except ConfigError as error:
        channel.send(LoadFailed(LoadFailure.CONFIG, error.message))
        return
    runner.wake = channel.wake
    channel.prepare = runner.prepare
    channel.close = runner.close
    channel.send(
        Ready(
            runner.context_length,
            runner.health.num_blocks,
            runner.block_size,
            runner.max_sequences,
            runner.block_bytes,
            runner.capabilities,
        )
    )
    EngineLoop(channel, runner).run_forever()
