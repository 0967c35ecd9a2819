"""Supervises the worker process of an engine: launches it, pings it, and replaces it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from stillhouse.engines.worker.frames import (
    LoadFailed,
    LoadFailure,
    Loading,
    Ping,
    Pong,
    Ready,
    ToGateway,
)
from stillhouse.engines.worker.process import WorkerProcess
from stillhouse.errors import CheckpointError, ConfigError, EngineUnavailableError, OperatorError
from stillhouse.workers.framing import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stillhouse.engines.base import EngineHealth
    from stillhouse.engines.worker.config import SupervisionConfig
    from stillhouse.engines.worker.streams import Streams


class Supervisor:
    """
    Keeps a worker process running.

    One task owns the worker: it launches the process, hands on its messages, and launches the next
    process when it dies. Everything runs on one event loop, whose thread has to live as long as
    this process: Linux ends a worker together with the thread that spawned it.

    Args:
        streams: The sequences that end with the worker when it dies.
        dispatch: Receives every message of a ready worker but pongs; raises FrameError where one
            makes no sense.

    Attributes:
        worker: The process that serves now; None while there is none.
        is_serving: Set exactly while there is one.
        listeners: Called whenever a worker begins to serve.

    """

    def __init__(  # noqa: PLR0913 (given once, by the engine)
        self,
        command: Sequence[str],
        streams: Streams,
        dispatch: Callable[[ToGateway], None],
        *,
        model: str,
        on_progress: Callable[[Loading], None] | None,
        timeouts: SupervisionConfig,
    ) -> None:
        self._command = tuple(command)
        self._streams = streams
        self._dispatch = dispatch
        self._on_progress = on_progress
        self._timeouts = timeouts
        self._log = structlog.get_logger(model=model)
        self._task: asyncio.Task[None] | None = None
        self._ready: Ready | None = None
        self._last_ping_id = 0
        self._pings: dict[int, asyncio.Future[EngineHealth]] = {}
        self.worker: WorkerProcess | None = None
        self.is_serving = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []

    @property
    def ready(self) -> Ready:
        """The `Ready` message of the last worker that became ready."""
        if self._ready is None:
            raise EngineUnavailableError("The engine has not been started.")
        return self._ready

    def serving_worker(self) -> WorkerProcess:
        """
        Returns the worker.

        Raises:
            EngineUnavailableError: There is none now.

        """
        if self.worker is not None:
            return self.worker
        if self._task is None:
            raise EngineUnavailableError("The engine is not running.")
        raise EngineUnavailableError("The engine is restarting after a crash.")

    async def start(self) -> None:
        """
        Launches the worker and returns when it serves requests.

        Raises:
            CheckpointError: The model's files are missing or not what they should be.
            ConfigError: A setting cannot be honoured on this machine.
            EngineUnavailableError: The worker died while it loaded.

        """
        if self._task is not None:
            return
        worker = await self._launch()
        self._begin_serving(worker)
        self._task = asyncio.create_task(self._supervise(worker), name="engine-supervisor")

    async def stop(self) -> None:
        """Ends the worker and every sequence; sequences fail with EngineUnavailableError."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if self.worker is not None:  # the task was cancelled before its first step
            worker = self.worker
            self._end_serving()
            await worker.stop(timeout_s=self._timeouts.stop_timeout_s)
        self._streams.fail_all(lambda: EngineUnavailableError("The engine was stopped."))

    async def ping(self, *, timeout_s: float) -> EngineHealth:
        """
        Returns what the engine's own loop answers.

        Raises:
            EngineUnavailableError: There is no worker, or it dies.
            TimeoutError: The loop does not answer in time.

        """
        worker = self.serving_worker()
        self._last_ping_id = ping_id = self._last_ping_id + 1
        answer: asyncio.Future[EngineHealth] = asyncio.get_running_loop().create_future()
        self._pings[ping_id] = answer
        worker.send(Ping(ping_id))
        try:
            return await asyncio.wait_for(answer, timeout_s)
        finally:
            self._pings.pop(ping_id, None)

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
            self.worker = None
            self.is_serving.clear()
            await worker.stop(timeout_s=self._timeouts.stop_timeout_s)

    async def _serve(self, worker: WorkerProcess) -> None:
        """Hands the worker's messages on until it dies."""
        watchdog = asyncio.create_task(self._watch(worker), name="engine-watchdog")
        try:
            while messages := await worker.receive_all():
                for message in messages:
                    if isinstance(message, Pong):
                        self._answer_ping(message)
                    else:
                        self._dispatch(message)
        except FrameError as error:
            self._log.error("engine_worker_spoke_nonsense", reason=str(error))
        finally:
            self._end_serving()
            watchdog.cancel()

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kills a worker whose loop has stopped turning; `_serve` then sees it die."""
        while True:
            await asyncio.sleep(self._timeouts.ping_interval_s)
            try:
                await self.ping(timeout_s=self._timeouts.hang_timeout_s)
            except EngineUnavailableError:
                return  # it died by itself
            except TimeoutError:
                self._log.error("engine_worker_hangs", silent_s=self._timeouts.hang_timeout_s)
                await worker.kill()
                return

    def _begin_serving(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.is_serving.set()
        for listener in self.listeners:
            listener()

    def _end_serving(self) -> None:
        self.worker = None
        self.is_serving.clear()
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(EngineUnavailableError("The engine died."))
        self._pings.clear()

    def _answer_ping(self, pong: Pong) -> None:
        answer = self._pings.pop(pong.ping_id, None)
        if answer is not None and not answer.done():
            answer.set_result(pong.health)

    async def _relaunch(self, delay_s: float) -> tuple[WorkerProcess, float]:
        """Tries until a worker serves; returns it and the delay to use if it dies too soon."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, self._timeouts.max_restart_delay_s)
            try:
                return await self._launch(), delay_s
            except (OperatorError, EngineUnavailableError) as error:
                self._log.error("engine_restart_failed", reason=str(error), next_in_s=delay_s)

    async def _launch(self) -> WorkerProcess:
        """Spawns a worker and returns it when it is ready."""
        try:
            worker = await WorkerProcess.spawn(self._command)
        except OSError as error:
            raise EngineUnavailableError(f"The engine worker cannot be run: {error}.") from error
        try:
            self._ready = await _load(worker, self._timeouts, self._on_progress)
        except BaseException:
            await worker.kill()
            raise
        self._log.info("engine_ready", pid=worker.pid, **_capacity(self._ready))
        return worker


async def _load(
    worker: WorkerProcess,
    timeouts: SupervisionConfig,
    on_progress: Callable[[Loading], None] | None,
) -> Ready:
    """Waits until the worker is ready, and reports its progress."""
    timeout_s = timeouts.load_silence_timeout_s
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
                if on_progress is not None:
                    on_progress(message)
            case LoadFailed(failure=LoadFailure.CHECKPOINT):
                raise CheckpointError(message.message)
            case LoadFailed(failure=LoadFailure.CONFIG):
                raise ConfigError(message.message)
            case _:
                # A kill would replace the worker's own exit code, which the message holds.
                await worker.stop(timeout_s=timeouts.stop_timeout_s)
                raise EngineUnavailableError(
                    f"The engine worker died while it loaded (exit code {worker.exit_code}); "
                    "its standard error says more."
                )


def _capacity(ready: Ready) -> dict[str, int | float]:
    """Returns how much a worker can hold, in the operator's units."""
    num_tokens = ready.num_blocks * ready.block_size
    return {
        "context_length": ready.context_length,
        "kv_cache_bytes": ready.num_blocks * ready.block_bytes,
        "kv_cache_blocks": ready.num_blocks,
        "kv_cache_tokens": num_tokens,
        "kv_cache_whole_contexts": round(num_tokens / ready.context_length, 1),
    }
