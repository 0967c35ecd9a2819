"""The errors that the load generator raises on purpose; their messages are written for its user."""

from __future__ import annotations


class LoadgenError(Exception):
    """The root of this package's errors; it is never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ArgumentError(LoadgenError):
    """An option or a file is wrong; the message names it and says what would be right."""


class TargetError(LoadgenError):
    """The server under test does not answer, or its answers cannot be measured."""
