"""An engine in a child process, so that a crash in native code does not take the gateway along."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

import structlog

from stillhouse.engines.base import EngineHealth, GenerateRequest, GenerateStep
from stillhouse.engines.capabilities import Capabilities
from stillhouse.engines.worker.config import SupervisionConfig
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
    ToGateway,
)
from stillhouse.engines.worker.process import WorkerProcess
from stillhouse.engines.worker.streams import Stream, Streams
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    EngineUnavailableError,
    InvalidRequestError,
    OperatorError,
    RequestTooLargeForEngineError,
    StillhouseError,
    UnsupportedFeatureError,
)
from stillhouse.workers.framing import FrameError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


class WorkerEngine:
    """
    The `TokenEngine` protocol over a supervised worker process that speaks `frames`.

    One task, the supervisor, owns the worker: it launches it, hands its messages to the waiting
    streams, and launches the next one when it dies. Everything runs on one event loop.
    That loop's thread should live as long as the process: Linux ends a worker together with the
    thread that spawned it.

    Args:
        command: The worker's program and arguments; its socket's number is appended.
        model: What the log calls it.
        on_progress: Told how far the worker has loaded, also at every restart.

    Attributes:
        on_compiled: Told for how many seconds the worker has compiled a grammar, and for which
            cache salt.

    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        model: str = "",
        on_progress: Callable[[Loading], None] | None = None,
        timeouts: SupervisionConfig | None = None,
    ) -> None:
        self._command = tuple(command)
        self._on_progress = on_progress
        self.on_compiled: Callable[[str, float], None] | None = None
        self._timeouts = timeouts or SupervisionConfig()
        self._log = structlog.get_logger(model=model)
        self._supervisor: asyncio.Task[None] | None = None
        self._worker: WorkerProcess | None = None  # set exactly while requests are served
        self._is_serving = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._ready: Ready | None = None
        self._streams = Streams()
        self._last_ping_id = 0
        self._pings: dict[int, asyncio.Future[EngineHealth]] = {}

    # The engine protocol.

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence; known once the engine has started."""
        if self._ready is None:
            raise EngineUnavailableError("The engine has not been started.")
        return self._ready.context_length

    @property
    def max_sequences(self) -> int:
        """Most sequences that it works on at once; known once the engine has started."""
        if self._ready is None:
            raise EngineUnavailableError("The engine has not been started.")
        return self._ready.max_sequences

    @property
    def capabilities(self) -> Capabilities:
        """What the worker declares; known once the engine has started."""
        if self._ready is None:
            raise EngineUnavailableError("The engine has not been started.")
        return self._ready.capabilities

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker that serves now, None while there is none."""
        return self._worker.pid if self._worker else None

    async def start(self) -> None:
        """
        Launch the worker and return when it serves requests.

        Raises:
            CheckpointError: The model's files are missing or not what they should be.
            ConfigError: A setting cannot be honoured on this machine.
            EngineUnavailableError: The worker died while it loaded.

        """
        if self._supervisor is not None:
            return
        worker = await self._launch()
        self._begin_serving(worker)
        self._supervisor = asyncio.create_task(self._supervise(worker), name="engine-supervisor")

    async def stop(self) -> None:
        """End the worker; sequences still running fail with EngineUnavailableError."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor
        if self._worker is not None:  # the supervisor was cancelled before its first step
            worker = self._worker
            self._end_serving()
            await worker.stop(timeout_s=self._timeouts.stop_timeout_s)
        self._streams.fail_all(lambda: EngineUnavailableError("The engine was stopped."))

    @property
    def is_serving(self) -> bool:
        """Whether requests are served; false while a worker starts or restarts."""
        return self._worker is not None

    def on_serving(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever requests are served again, after a crash for one."""
        self._listeners.append(listener)

    async def wait_until_serving(self) -> None:
        """Return when requests are served, which after a crash takes a restart."""
        await self._is_serving.wait()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateStep]:
        """
        Yield the sequence's tokens as they are made; the last step carries `finish`.

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
            if self._streams.close(stream) and self._worker is not None:
                self._worker.send(Cancel(stream.sequence_id))

    def cancel(self, request_id: str) -> None:
        """
        Stop a sequence within one engine step.

        Its iterator ends with `EngineFinish.CANCELLED` and the exact count of what was generated.
        An unknown or finished request is left alone.
        """
        sequence_id = self._streams.sequence_id(request_id)
        if sequence_id is not None and self._worker is not None:
            self._worker.send(Cancel(sequence_id))

    async def health(self) -> EngineHealth:
        """
        A round trip through the engine's own loop.

        Raises:
            EngineUnavailableError: The loop did not answer in time.

        """
        try:
            return await self._ping(timeout_s=self._timeouts.health_timeout_s)
        except TimeoutError as error:
            raise EngineUnavailableError(
                f"The engine did not answer within {self._timeouts.health_timeout_s:g} s."
            ) from error

    def _open(self, request: GenerateRequest) -> Stream:
        if self._worker is None:
            raise EngineUnavailableError(self._absence())
        stream = self._streams.open(request.request_id)
        try:
            self._worker.send(Generate(stream.sequence_id, _for_worker(request)))
        except FrameError as error:
            self._streams.close(stream)
            raise InvalidRequestError(str(error)) from error
        return stream

    def _absence(self) -> str:
        if self._supervisor is None:
            return "The engine is not running."
        return "The engine is restarting after a crash."

    # Supervision.

    async def _supervise(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        delay_s = self._timeouts.first_restart_delay_s
        try:
            while True:
                serving_since_s = loop.time()
                await self._serve(worker)
                await worker.kill()
                if loop.time() - serving_since_s >= self._timeouts.stable_after_s:
                    delay_s = self._timeouts.first_restart_delay_s
                self._log.error(
                    "engine_worker_died",
                    exit_code=worker.exit_code,
                    num_in_flight=len(self._streams),
                    restart_in_s=delay_s,
                )
                self._streams.crash_all()
                worker, delay_s = await self._relaunch(delay_s)
                self._begin_serving(worker)
        finally:
            self._worker = None
            self._is_serving.clear()
            await worker.stop(timeout_s=self._timeouts.stop_timeout_s)

    async def _serve(self, worker: WorkerProcess) -> None:
        """Hand the worker's messages on until it dies."""
        watchdog = asyncio.create_task(self._watch(worker), name="engine-watchdog")
        try:
            while messages := await worker.receive_all():
                for message in messages:
                    self._dispatch(message)
        except FrameError as error:
            self._log.error("engine_worker_spoke_nonsense", reason=str(error))
        finally:
            self._end_serving()
            watchdog.cancel()

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill a worker whose loop has stopped turning; `_serve` then sees it die."""
        while True:
            await asyncio.sleep(self._timeouts.ping_interval_s)
            try:
                await self._ping(timeout_s=self._timeouts.hang_timeout_s)
            except EngineUnavailableError:
                return  # it died by itself
            except TimeoutError:
                self._log.error("engine_worker_hangs", silent_s=self._timeouts.hang_timeout_s)
                await worker.kill()
                return

    def _begin_serving(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._is_serving.set()
        for listener in self._listeners:
            listener()

    def _end_serving(self) -> None:
        self._worker = None
        self._is_serving.clear()
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(EngineUnavailableError("The engine died."))
        self._pings.clear()

    async def _relaunch(self, delay_s: float) -> tuple[WorkerProcess, float]:
        """Try until a worker serves; return it and the delay to use if it dies too soon."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, self._timeouts.max_restart_delay_s)
            try:
                return await self._launch(), delay_s
            except (OperatorError, EngineUnavailableError) as error:
                self._log.error("engine_restart_failed", reason=str(error), next_in_s=delay_s)

    async def _launch(self) -> WorkerProcess:
        """Spawn a worker and return it when it is ready."""
        try:
            worker = await WorkerProcess.spawn(self._command)
        except OSError as error:
            raise EngineUnavailableError(f"The engine worker cannot be run: {error}.") from error
        try:
            self._ready = await self._load(worker)
        except BaseException:
            await worker.kill()
            raise
        self._log.info("engine_ready", pid=worker.pid, **_capacity(self._ready))
        return worker

    async def _load(self, worker: WorkerProcess) -> Ready:
        timeout_s = self._timeouts.load_silence_timeout_s
        while True:
            try:
                message = await asyncio.wait_for(worker.receive(), timeout_s)
            except TimeoutError as error:
                raise EngineUnavailableError(
                    f"The engine worker was silent for {timeout_s:g} s while it loaded."
                ) from error
            except FrameError as error:
                raise EngineUnavailableError(f"The engine worker: {error}") from error
            match message:
                case Ready():
                    return message
                case Loading():
                    if self._on_progress is not None:
                        self._on_progress(message)
                case LoadFailed(failure=LoadFailure.CHECKPOINT):
                    raise CheckpointError(message.message)
                case LoadFailed(failure=LoadFailure.CONFIG):
                    raise ConfigError(message.message)
                case _:
                    # Its own exit code is told, so it is not overtaken by a kill.
                    await worker.stop(timeout_s=self._timeouts.stop_timeout_s)
                    raise EngineUnavailableError(
                        f"The engine worker died while it loaded (exit code {worker.exit_code}); "
                        "its own words are on standard error."
                    )

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
            case Pong() | Compiled():
                self._note(message)
            case Loading() | Ready() | LoadFailed():
                raise FrameError(f"A {type(message).__name__} from a worker that is ready.")
            case _:
                assert_never(message)

    def _note(self, message: Pong | Compiled) -> None:
        if isinstance(message, Compiled):
            if self.on_compiled is not None:
                self.on_compiled(message.cache_salt, message.seconds)
            return
        answer = self._pings.pop(message.ping_id, None)
        if answer is not None and not answer.done():
            answer.set_result(message.health)

    async def _ping(self, *, timeout_s: float) -> EngineHealth:
        if self._worker is None:
            raise EngineUnavailableError(self._absence())
        self._last_ping_id = ping_id = self._last_ping_id + 1
        answer: asyncio.Future[EngineHealth] = asyncio.get_running_loop().create_future()
        self._pings[ping_id] = answer
        self._worker.send(Ping(ping_id))
        try:
            return await asyncio.wait_for(answer, timeout_s)
        finally:
            self._pings.pop(ping_id, None)


def _for_worker(request: GenerateRequest) -> GenerateRequest:
    """Leave out the portable constraint: a worker takes the compiled grammar."""
    return request if request.constraint is None else replace(request, constraint=None)


def _capacity(ready: Ready) -> dict[str, int | float]:
    """Return how much a worker can hold, in the operator's units."""
    num_tokens = ready.num_blocks * ready.block_size
    return {
        "context_length": ready.context_length,
        "kv_cache_bytes": ready.num_blocks * ready.block_bytes,
        "kv_cache_blocks": ready.num_blocks,
        "kv_cache_tokens": num_tokens,
        "kv_cache_whole_contexts": round(num_tokens / ready.context_length, 1),
    }


_REFUSALS: dict[RefusalCode, type[InvalidRequestError]] = {
    RefusalCode.INVALID: InvalidRequestError,
    RefusalCode.TOO_LARGE: RequestTooLargeForEngineError,
    RefusalCode.UNSUPPORTED: UnsupportedFeatureError,
}


def _refusal(refused: Refused) -> StillhouseError:
    kind = _REFUSALS[refused.code]
    return kind(refused.message, param=refused.param)
