"""Runs an engine in a child process, so that a crash in native code does not end the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from stillhouse.engines.base import EngineHealth, GenerateRequest, GenerateStep
from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.engines.worker.frames import (
    Cancel,
    Compiled,
    Generate,
    LoadFailed,
    Loading,
    Pong,
    Ready,
    RefusalCode,
    Refused,
    Steps,
    ToGateway,
)
from stillhouse.engines.worker.streams import Stream, Streams
from stillhouse.engines.worker.supervisor import Supervisor
from stillhouse.errors import (
    EngineUnavailableError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
    StillhouseError,
    UnsupportedFeatureError,
)
from stillhouse.workers.framing import FrameError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from stillhouse.engines.capabilities import Capabilities


class WorkerEngine:
    """
    Implements `TokenEngine` over a supervised worker process that speaks `frames`.

    `Supervisor` owns the process; this class owns the sequences that are sent to it.

    Args:
        command: The worker's program and arguments; its socket's number is appended.
        model: The model's name in the log.
        on_progress: Receives the progress of loading, also at every restart.

    Attributes:
        on_compiled: Receives the cache salt and the seconds of every grammar that the worker has
            compiled.

    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        model: str = "",
        on_progress: Callable[[Loading], None] | None = None,
        timeouts: SupervisionConfig | None = None,
    ) -> None:
        self.on_compiled: Callable[[str, float], None] | None = None
        self._timeouts = timeouts or SupervisionConfig()
        self._streams = Streams()
        self._supervisor = Supervisor(
            command,
            self._streams,
            self._dispatch,
            model=model,
            on_progress=on_progress,
            timeouts=self._timeouts,
        )

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence; known once the engine has started."""
        return self._supervisor.ready.context_length

    @property
    def max_sequences(self) -> int:
        """Most sequences that run at once; known once the engine has started."""
        return self._supervisor.ready.max_sequences

    @property
    def capabilities(self) -> Capabilities:
        """The features that the worker declares; known once the engine has started."""
        return self._supervisor.ready.capabilities

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker that serves now, None while there is none."""
        worker = self._supervisor.worker
        return worker.pid if worker else None

    @property
    def is_serving(self) -> bool:
        """Whether requests are served; false while a worker starts or restarts."""
        return self._supervisor.worker is not None

    def on_serving(self, listener: Callable[[], None]) -> None:
        """Calls *listener* whenever requests are served again, such as after a crash."""
        self._supervisor.listeners.append(listener)

    async def wait_until_serving(self) -> None:
        """Returns when requests are served, which after a crash takes a restart."""
        await self._supervisor.is_serving.wait()

    async def start(self) -> None:
        """
        Launches the worker and returns when it serves requests.

        Raises:
            CheckpointError: The model's files are missing or not what they should be.
            ConfigError: A setting cannot be honoured on this machine.
            EngineUnavailableError: The worker died while it loaded.

        """
        await self._supervisor.start()

    async def stop(self) -> None:
        """Ends the worker; sequences still running fail with EngineUnavailableError."""
        await self._supervisor.stop()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateStep]:
        """
        Yields the sequence's tokens as they are made; the last step carries `finish`.

        Closing the iterator early cancels the sequence as well.

        Raises:
            EngineUnavailableError: The engine is starting, restarting or stopped.
            EngineCrashedError: The engine died during this request.
            RequestTooLargeForEngineError: Its KV cache can never hold the request.
            InvalidRequestError: A value cannot be honoured; or, in the middle of the sequence, its
                grammar takes more work than is allowed.

        """
        stream = self._open(request)
        try:
            while True:
                arrived = await stream.get()
                if isinstance(arrived, StillhouseError):
                    raise arrived
                if arrived.finish is not None:
                    self._streams.close(stream)
                yield arrived
                if arrived.finish is not None:
                    return
        finally:
            if self._streams.close(stream) and self._supervisor.worker is not None:
                self._supervisor.worker.send(Cancel(stream.sequence_id))

    def cancel(self, request_id: str) -> None:
        """
        Stops a sequence within one engine step.

        Its iterator ends with `EngineFinish.CANCELLED` and the exact count of what was generated.
        An unknown or finished request is left alone.
        """
        sequence_id = self._streams.sequence_id(request_id)
        worker = self._supervisor.worker
        if sequence_id is not None and worker is not None:
            worker.send(Cancel(sequence_id))

    async def health(self) -> EngineHealth:
        """
        A round trip through the engine's own loop.

        Raises:
            EngineUnavailableError: The loop did not answer in time.

        """
        try:
            return await self._supervisor.ping(timeout_s=self._timeouts.health_timeout_s)
        except TimeoutError as error:
            raise EngineUnavailableError(
                f"The engine did not answer within {self._timeouts.health_timeout_s:g} s."
            ) from error

    def _open(self, request: GenerateRequest) -> Stream:
        worker = self._supervisor.serving_worker()
        stream = self._streams.open(request.request_id)
        try:
            worker.send(Generate(stream.sequence_id, _for_worker(request)))
        except FrameError as error:
            self._streams.close(stream)
            raise InvalidRequestError(str(error)) from error
        return stream

    def _dispatch(self, message: ToGateway) -> None:
        match message:
            case Steps():
                for sequence_id, step in message.steps:
                    if stream := self._streams.find(sequence_id):
                        stream.put(step)
            case Refused():
                if stream := self._streams.find(message.sequence_id):
                    stream.put(_refusal(message))
                    self._streams.close(stream)
            case Compiled():
                if self.on_compiled is not None:
                    self.on_compiled(message.cache_salt, message.seconds)
            case Pong() | Loading() | Ready() | LoadFailed():
                raise FrameError(f"A {type(message).__name__} from a worker that is ready.")
            case _:
                assert_never(message)


def _for_worker(request: GenerateRequest) -> GenerateRequest:
    """Leaves out the portable constraint: a worker takes the compiled grammar."""
    return request if request.constraint is None else replace(request, constraint=None)


_REFUSALS: dict[RefusalCode, type[InvalidRequestError]] = {
    RefusalCode.INVALID: InvalidRequestError,
    RefusalCode.TOO_LARGE: RequestTooLargeForEngineError,
    RefusalCode.UNSUPPORTED: UnsupportedFeatureError,
}


def _refusal(refused: Refused) -> StillhouseError:
    kind = _REFUSALS[refused.code]
    return kind(refused.message, param=refused.param)
