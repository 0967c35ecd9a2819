"""Marks points at which a test can act; outside of tests each costs one comparison."""

from __future__ import annotations

from collections.abc import Callable

_handler: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Passes the point *name*; see `stillhouse.testing.failpoints`."""
    if _handler is not None:
        _handler(name)


def on_failpoint(handler: Callable[[str], None]) -> None:
    """Calls *handler* with the name of every point that is passed."""
    global _handler  # noqa: PLW0603  (the points are the process's own)
    _handler = handler
