"""Waiting for something that is only known from the log."""

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
    """An event that is set when *logger* has something to say."""
    bell = _Bell()
    logger.addHandler(bell)
    yield bell.rung
    logger.removeHandler(bell)
