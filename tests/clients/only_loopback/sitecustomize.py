"""Loaded by Python at its start: refuses, and notes in a file, every call to another machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1", None)
_noted = Path(os.environ["CALLS_OUTSIDE"])


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: what a library does behind an `except` is noted all the same."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in LOOPBACK:
        with _noted.open("a") as file:
            file.write(f"{host}\n")
        raise PermissionError(f"this test lets nobody call {host}")


sys.addaudithook(refuse)
