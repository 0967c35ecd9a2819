"""What goes between the gateway and a process that reads bodies."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import StillhouseError

#: Before a job: how long its work and its body are. Before a result: how long it is.
JOB_HEAD = struct.Struct("<QQ")
RESULT_HEAD = struct.Struct("<Q")
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
    What is to be done with a body.

    Args:
        read: Reads it; a function of a module, or a `partial` of one.
        is_packed: It is gzip, and has to be unpacked first.
        max_bytes: Of the unpacked body.

    """

    read: Callable[[bytes], object]
    is_packed: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """
    What has come of it.

    Args:
        value: What was read.
        error: Or why it is refused: an error's class, its arguments and its attributes.
        fault: Or where the program is wrong, in words that quote nothing of the body.
        cpu_s: How long it took.

    """

    cpu_s: float
    value: object = None
    error: tuple[type[StillhouseError], tuple[object, ...], dict[str, object]] | None = None
    fault: str | None = None

    def result(self) -> Any:
        """
        The value.

        Raises:
            StillhouseError: As it was raised where the body was read.
            RuntimeError: The program is wrong.

        """
        if self.fault is not None:
            raise RuntimeError(f"a body could not be read: {self.fault}")
        if self.error is not None:
            kind, args, attributes = self.error
            error = kind.__new__(kind, *args)
            error.__dict__.update(attributes)
            raise error
        return self.value


def job_frame(work: Work, body: bytes) -> bytes:
    """All of a job but the body, which follows it."""
    words = pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    return JOB_HEAD.pack(len(words), len(body)) + words


def read_work(words: bytes) -> Work:
    """The inverse of `job_frame`, in the child, which believes its parent."""
    work: Work = pickle.loads(words)  # noqa: S301  (what the gateway itself wrote)
    return work


def result_frame(done: Done) -> bytes:
    """A result, with its length before it."""
    words = pickle.dumps(done, pickle.HIGHEST_PROTOCOL)
    return RESULT_HEAD.pack(len(words)) + words


def read_result(words: bytes) -> Done:
    """
    The inverse of `result_frame`, in the parent.

    Raises:
        pickle.UnpicklingError: It holds what no request is made of.

    """
    done = _ResultReader(io.BytesIO(words)).load()
    if not isinstance(done, Done):
        raise pickle.UnpicklingError(f"{type(done)} is no result")
    return done


class _ResultReader(pickle.Unpickler):
    """Makes objects of the classes that a request is made of, and calls nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = super().find_class(module_name, global_name)
        if isinstance(found, type) and found.__module__.startswith(_MODULES):
            return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} has no place in a result")
