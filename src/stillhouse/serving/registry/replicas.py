"""The replicas of one model: engines that run the same weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stillhouse.engines.base import TokenEngine
from stillhouse.engines.capabilities import Capabilities
from stillhouse.errors import EngineUnavailableError, StillhouseError
from stillhouse.serving.registry.router import pick_replica


class Replica:
    """One engine of a model, and the number of sequences that were dispatched to it."""

    __slots__ = ("engine", "num_sequences")

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine
        self.num_sequences = 0

    @property
    def is_serving(self) -> bool:
        """Whether its engine serves requests now."""
        return self.engine.is_serving

    @property
    def max_sequences(self) -> int:
        """Most sequences that its engine works on at once, read from the engine."""
        return self.engine.max_sequences

    def assign(self, num_sequences: int) -> None:
        """Counts sequences that are dispatched to it."""
        self.num_sequences += num_sequences

    def release(self, num_sequences: int) -> None:
        """Counts sequences that have ended, or were never begun."""
        self.num_sequences -= num_sequences


class ReplicaSet:
    """
    The engines of one model; it outlives them, so that the model's queue stays through a reload.

    Capacity is read from the engines at each call and never kept: an engine that comes back from a
    crash may have another.
    """

    def __init__(self) -> None:
        self._replicas: list[Replica] = []
        self._listeners: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def num_serving(self) -> int:
        """How many replicas serve requests now."""
        return sum(replica.is_serving for replica in self._replicas)

    @property
    def is_serving(self) -> bool:
        """Whether a replica serves requests now; false while all of them start or restart."""
        return any(replica.is_serving for replica in self._replicas)

    @property
    def max_sequences(self) -> int:
        """Most sequences of all serving replicas together."""
        return sum(replica.max_sequences for replica in self._replicas if replica.is_serving)

    @property
    def context_length(self) -> int:
        """
        Most tokens of one sequence on any of the replicas.

        Raises:
            EngineUnavailableError: There is no replica.

        """
        if not self._replicas:
            raise EngineUnavailableError("The model has no engine.")
        return min(replica.engine.context_length for replica in self._replicas)

    @property
    def capabilities(self) -> Capabilities:
        """
        What the engines honour; those of one model are all of one kind.

        Raises:
            EngineUnavailableError: There is no replica.

        """
        if not self._replicas:
            raise EngineUnavailableError("The model has no engine.")
        return self._replicas[0].engine.capabilities

    def pick(self, num_sequences: int) -> Replica | None:
        """Picks the replica that runs a request of *num_sequences* answers; None: it must wait."""
        return pick_replica(self._replicas, num_sequences)

    def on_serving(self, listener: Callable[[], None]) -> None:
        """Calls *listener* whenever a replica begins to serve, after a crash for one."""
        self._listeners.append(listener)

    async def start(self, engine: TokenEngine) -> None:
        """
        Starts *engine* and adds it as a replica.

        Raises:
            StillhouseError: As `TokenEngine.start`; the set is unchanged then.

        """
        await engine.start()
        self.add(engine)

    def add(self, engine: TokenEngine) -> None:
        """Adds an engine that was started."""
        self._replicas.append(Replica(engine))
        engine.on_serving(self._notify)
        self._notify()

    async def stop(self) -> None:
        """Removes all replicas and stops their engines; sequences on them fail."""
        replicas, self._replicas = self._replicas, []
        await asyncio.gather(*(replica.engine.stop() for replica in replicas))

    async def check_health(self) -> None:
        """
        Makes a round trip through the engines' own loops; one that answers is enough.

        Raises:
            EngineUnavailableError: None of them did in time.

        """
        if not self._replicas:
            raise EngineUnavailableError("The model has no engine.")
        answers = await asyncio.gather(
            *(replica.engine.health() for replica in self._replicas), return_exceptions=True
        )
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        for fault in faults:
            if not isinstance(fault, StillhouseError):
                raise fault
        if len(faults) == len(answers):
            raise faults[0]

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()
