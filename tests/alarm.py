"""Waits for an event that only the log shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog


@contextmanager
def alarm(event: str) -> Iterator[asyncio.Event]:
    """Return an asyncio event that is set when a line with *event* is logged."""
    rung = asyncio.Event()

    def ring(_logger: Any, _level: str, fields: MutableMapping[str, Any]) -> Any:
        if fields["event"] == event:
            rung.set()
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    kept = [*processors]
    processors[:] = [ring]
    try:
        yield rung
    finally:
        processors[:] = kept
