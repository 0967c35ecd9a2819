"""The endpoints for monitors: liveness, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stillhouse.api.http.drain import Drain
from stillhouse.api.http.operation import Operation, declares
from stillhouse.clock import Clock
from stillhouse.errors import StillhouseError, StoreUnavailableError
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.states import ModelState
from stillhouse.telemetry.background import BackgroundLoops
from stillhouse.telemetry.metrics import Metrics

#: Monitors often time out after a second. Engines may take longer, as one step of a long prompt
#: does.
_STORE_TIMEOUT_S = 0.8

#: `/readyz` is public, so the ledger is written for it at most this often.
_PROBE_INTERVAL_S = 1.0


class SharedCheck:
    """
    A check that runs at most once a second; concurrent callers share it and its result.

    Args:
        check: Raises if something does not work; it may take long.

    """

    def __init__(self, check: Callable[[], Coroutine[Any, Any, None]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._last: asyncio.Task[None] | None = None
        self._begun_s = 0.0

    async def __call__(self) -> None:
        """
        Waits for the result of the last check, or of a new one.

        Raises:
            StoreUnavailableError: It failed, or has not ended within 0.8 s.

        """
        now_s = self._clock.monotonic_s()
        if self._last is None or (self._last.done() and now_s - self._begun_s >= _PROBE_INTERVAL_S):
            self._begun_s = now_s
            self._last = asyncio.create_task(self._check(), name="probe of the ledger")
            self._last.add_done_callback(_take_error)
        try:
            await asyncio.wait_for(asyncio.shield(self._last), _STORE_TIMEOUT_S)
        except TimeoutError as error:
            raise StoreUnavailableError(f"did not answer within {_STORE_TIMEOUT_S} s") from error


def _take_error(task: asyncio.Task[None]) -> None:
    """Retrieves the error of a check whose caller may be gone, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


@dataclass(frozen=True, slots=True)
class Probes:
    """
    The endpoints for monitors.

    Args:
        check_store: Raises if the ledger cannot be written.
        background: The loops beside requests, such as the renewal of leases.

    """

    models: ModelRegistry
    metrics: Metrics
    check_store: SharedCheck
    drain: Drain
    background: BackgroundLoops

    @declares(Operation("Is the process up?"))
    async def livez(self, _request: Request) -> Response:
        """Returns a 200 while the process runs."""
        return Response("ok\n", media_type="text/plain")

    @declares(
        Operation(
            "Do every engine and the ledger work? A 503 has `ok` or the fault of each",
            response=dict[str, str],
            response_statuses=(200, 503),
        )
    )
    async def readyz(self, _request: Request) -> Response:
        """
        Returns a 200 if every engine's loop, the store and the background loops work, else a 503.

        A model that failed to load, drains or is stopped is named, and leaves 200 while another
        one serves. A background loop is named only while it fails; one that requests do not need
        leaves 200.
        """
        if self.drain.has_begun:
            report = {"server": "It is shutting down."}
            return Response(msgspec.json.encode(report), 503, media_type="application/json")
        statuses = {status.model_id: status for status in self.models.statuses}
        checks = {model.spec.id: model.replicas.check_health() for model in self.models}
        found = await asyncio.gather(
            *(_describe(check) for check in (*checks.values(), self.check_store()))
        )
        report = dict(zip((*checks, "store"), found, strict=True))
        is_ready = (
            bool(checks)
            and all(word == "ok" for word in found)
            and all(status.state is not ModelState.LOADING for status in statuses.values())
            and not self.background.faults(only_vital=True)
        )
        report |= {id_: str(status) for id_, status in statuses.items() if id_ not in checks}
        report |= {f"background {name}": fault for name, fault in self.background.faults().items()}
        status = 200 if is_ready else 503
        return Response(msgspec.json.encode(report), status, media_type="application/json")

    @declares(Operation("Prometheus metrics, for the admin key"))
    async def exposition(self, _request: Request) -> Response:
        """Returns every metric in Prometheus' text format."""
        return Response(self.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def _describe(check: Awaitable[object]) -> str:
    try:
        await check
    except StillhouseError as error:
        return error.message
    return "ok"
