"""The results of grammars that were compiled before, good and bad, each by its digest."""

from __future__ import annotations

from collections import OrderedDict

from stillhouse.clock import Clock


class Verdicts:
    """
    Caches the verdicts that were used last.

    A good grammar stays good. A bad one is tried again after a while, as a busy machine may be the
    cause of its having taken too long.

    Args:
        max_remembered: Verdicts; each takes less than a kilobyte.
        bad_for_s: How long a bad one is remembered.

    """

    def __init__(self, *, max_remembered: int, bad_for_s: float, clock: Clock) -> None:
        self._max_remembered = max_remembered
        self._bad_for_s = bad_for_s
        self._clock = clock
        self._verdicts: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many verdicts are cached."""
        return len(self._verdicts)

    def find(self, digest: bytes) -> tuple[str | None] | None:
        """Returns the fault of a grammar, None inside if it has none; None if it is unknown."""
        found = self._verdicts.get(digest)
        if found is None:
            return None
        fault, noted_s = found
        if fault is not None and self._clock.monotonic_s() - noted_s >= self._bad_for_s:
            del self._verdicts[digest]
            return None
        self._verdicts.move_to_end(digest)
        return (fault,)

    def note(self, digest: bytes, fault: str | None) -> None:
        """Caches the fault of a grammar; None if it has none."""
        self._verdicts[digest] = (fault, self._clock.monotonic_s())
        self._verdicts.move_to_end(digest)
        if len(self._verdicts) > self._max_remembered:
            self._verdicts.popitem(last=False)
