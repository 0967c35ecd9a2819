"""Waits for an event that only the log shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Bell(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.rung = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.rung.set()


@contextmanager
def alarm(logger: logging.Logger) -> Iterator[asyncio.Event]:
    """Return an event that is set when *logger* logs a record."""
    bell = _Bell()
    logger.addHandler(bell)
    yield bell.rung
    logger.removeHandler(bell)
