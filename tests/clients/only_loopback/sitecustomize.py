"""Refuses every call to another machine, and records it in a file; Python loads it at start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1", None)
_noted = Path(os.environ["CALLS_OUTSIDE"])


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit an event; a call is recorded even if the library catches the error."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in LOOPBACK:
        with _noted.open("a") as file:
            file.write(f"{host}\n")
        raise PermissionError(f"this test allows no call to {host}")


sys.addaudithook(refuse)
