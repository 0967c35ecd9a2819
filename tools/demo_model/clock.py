"""Time spent working, which drives the learning rate."""

import signal
import statistics
import time

HURRY = 0.8


class Clock:
    """Progress from 0 to 1 by time spent working; time spent stopped does not count."""

    def __init__(self, minutes: float) -> None:
        self.budget = minutes * 60
        self.spent = 0.0
        self.recent = [1e9]
        self.last = time.monotonic()
        signal.signal(signal.SIGUSR1, self.finish)

    def tick(self) -> None:
        """Count a step; a pause within it counts as at most twenty steps."""
        now = time.monotonic()
        step, self.last = now - self.last, now
        self.spent += min(step, 20 * statistics.median(self.recent))
        self.recent = [*self.recent[-20:], step]

    def finish(self, *_: object) -> None:
        """Skip to the last fifth, where the learning rate is low, on SIGUSR1."""
        self.spent = max(self.spent, HURRY * self.budget)

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.spent / self.budget

    def resume(self) -> None:
        """Leave the time since the last step out, as it was not training."""
        self.last = time.monotonic()
