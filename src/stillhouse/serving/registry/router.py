"""The router: which replica of a model runs a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class ReplicaLoad(Protocol):
    """The load of one replica, as the router reads it."""

    @property
    def is_serving(self) -> bool:
        """Whether its engine serves requests now."""
        ...

    @property
    def max_sequences(self) -> int:
        """Most sequences that its engine works on at once."""
        ...

    @property
    def num_sequences(self) -> int:
        """Sequences that were dispatched to it and have not ended."""
        ...


L = TypeVar("L", bound=ReplicaLoad)


def pick_replica(replicas: Iterable[L], num_sequences: int) -> L | None:
    """
    Picks the serving replica with the most free slots; of equals, the first.

    All answers of a request run on one replica, so one replica must have room for all of them. A
    request of more answers than a replica has slots goes to an idle one.

    Returns:
        None where no serving replica has room.

    """
    best: L | None = None
    most_free = 0
    for replica in replicas:
        if not replica.is_serving:
            continue
        free = replica.max_sequences - replica.num_sequences
        has_room = free >= num_sequences or not replica.num_sequences
        if has_room and (best is None or free > most_free):
            best, most_free = replica, free
    return best
