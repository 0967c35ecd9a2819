"""Defines the messages between the gateway and a process that parses bodies."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import StillhouseError

#: Whose classes a result is made of.
_MODULES = (
    *(
        "stillhouse.api.",
        "stillhouse.types.",
        "stillhouse.billing.idempotency_key",
        "stillhouse.errors",
    ),
    "msgspec",
)


@dataclass(frozen=True, slots=True)
class Work:
    """
    A job: how to parse a body.

    Args:
        read: Parses the body; a function of a module, or a `partial` of one.
        is_packed: The body is gzip, and is decompressed first.
        max_bytes: Most bytes of the decompressed body.

    """

    read: Callable[[bytes], object]
    is_packed: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """
    The result of a job.

    Args:
        value: The parsed value.
        error: The refusal, if there is one: an error's class, arguments and attributes.
        fault: A bug's traceback, without its message, which could quote the body.
        cpu_s: The CPU time it took.

    """

    cpu_s: float
    value: object = None
    error: tuple[type[StillhouseError], tuple[object, ...], dict[str, object]] | None = None
    fault: str | None = None

    def result(self) -> Any:
        """
        Returns the value.

        Raises:
            StillhouseError: Parsing raised it.
            RuntimeError: Parsing failed with a bug.

        """
        if self.fault is not None:
            raise RuntimeError(f"a body could not be parsed: {self.fault}")
        if self.error is not None:
            kind, args, attributes = self.error
            error = kind.__new__(kind, *args)
            error.__dict__.update(attributes)
            raise error
        return self.value


def write_work(work: Work) -> bytes:
    """Returns *work* as the child reads it; the body follows in a frame of its own."""
    return pickle.dumps(work, pickle.HIGHEST_PROTOCOL)


def read_work(frame: bytes) -> Work:
    """Returns what `write_work` wrote, in the child, which trusts its parent."""
    work: Work = pickle.loads(frame)  # noqa: S301  (what the gateway itself wrote)
    return work


def write_result(done: Done) -> bytes:
    """Returns *done* as the parent reads it."""
    return pickle.dumps(done, pickle.HIGHEST_PROTOCOL)


def read_result(frame: bytes) -> Done:
    """
    Returns what `write_result` wrote, in the parent, which does not trust its child.

    Raises:
        pickle.UnpicklingError: It holds a class that no request has.

    """
    done = _ResultReader(io.BytesIO(frame)).load()
    if not isinstance(done, Done):
        raise pickle.UnpicklingError(f"{type(done)} is no result")
    return done


class _ResultReader(pickle.Unpickler):
    """Unpickles only classes that requests are made of."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = super().find_class(module_name, global_name)
        if isinstance(found, type) and found.__module__.startswith(_MODULES):
            return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed in a result")
