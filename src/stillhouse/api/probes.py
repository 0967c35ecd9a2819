"""What monitors ask: is the process up, can it answer, and how much has it done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stillhouse.api.drain import Drain
from stillhouse.background import BackgroundLoops
from stillhouse.errors import StillhouseError, StoreUnavailableError
from stillhouse.metrics import Metrics
from stillhouse.serving.served_model import ServedModels

#: A monitor's own patience often ends after a second. Engines are waited for longer: one step of a
#: long prompt takes as long as it takes.
_STORE_TIMEOUT_S = 0.8


@dataclass(frozen=True, slots=True)
class Probes:
    """
    The endpoints for monitors.

    Args:
        check_store: A round trip to the ledger's store; raises when it does not answer.
        background: What is done again and again beside requests, such as the renewal of leases.

    """

    models: ServedModels
    metrics: Metrics
    check_store: Callable[[], Awaitable[None]]
    drain: Drain
    background: BackgroundLoops

    async def livez(self, _request: Request) -> Response:
        """200 while the process answers at all."""
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, _request: Request) -> Response:
        """
        200 when every engine's own loop, the store and the background loops work, else 503.

        A background loop is named only while it fails; one that requests do not need leaves 200.
        """
        if self.drain.has_begun:
            report = {"server": "It is shutting down."}
            return Response(msgspec.json.encode(report), 503, media_type="application/json")
        checks = {model.chat.spec.id: model.engine.health() for model in self.models}
        found = await asyncio.gather(
            *(_describe(check) for check in (*checks.values(), _in_time(self.check_store())))
        )
        report = dict(zip((*checks, "store"), found, strict=True))
        is_ready = all(word == "ok" for word in found) and not self.background.faults(
            only_vital=True
        )
        report |= {f"background {name}": fault for name, fault in self.background.faults().items()}
        status = 200 if is_ready else 503
        return Response(msgspec.json.encode(report), status, media_type="application/json")

    async def exposition(self, _request: Request) -> Response:
        """Every metric in Prometheus' text format."""
        return Response(self.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def _in_time(check: Awaitable[None]) -> None:
    try:
        await asyncio.wait_for(check, _STORE_TIMEOUT_S)
    except TimeoutError as error:
        raise StoreUnavailableError(f"did not answer within {_STORE_TIMEOUT_S} s") from error


async def _describe(check: Awaitable[object]) -> str:
    try:
        await check
    except StillhouseError as error:
        return error.message
    return "ok"
