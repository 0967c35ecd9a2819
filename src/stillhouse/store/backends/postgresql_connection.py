"""Connections to PostgreSQL that do not wait for ever."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from stillhouse.store.backends.timeouts import ANSWER_TIMEOUT_S

#: So many attempts may hang, each until its own timeout, before the next has to wait for a thread.
_MAX_ATTEMPTS = 8


class TimeoutConnection(psycopg.Connection[Any]):
    """
    Closes itself when the server has not answered in time, where psycopg would go on waiting.

    The server's own timeouts do not help against a network that swallows what they say.
    """

    answer_timeout_s = ANSWER_TIMEOUT_S

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for one exchange with the server, as psycopg does, but not longer than that."""
        return super().wait(self._answered(gen), *args, **kwargs)

    def _answered(self, exchange: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run psycopg's *exchange*, which is told every 0.1 s that there is nothing yet."""
        deadline_s = time.monotonic() + self.answer_timeout_s
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= deadline_s:
                    self.close()
                    raise psycopg.OperationalError(
                        f"the database has not answered for {self.answer_timeout_s} s"
                    )
                wanted = exchange.send(ready)
        except StopIteration as end:
            return end.value


class ConnectionFactory:
    """
    Makes connections, each on a thread that it can turn away from.

    libpq's own timeout has whole seconds, at least two, and begins behind the look-up of the name.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._threads = ThreadPoolExecutor(_MAX_ATTEMPTS, "ledger-connect")

    def __call__(self) -> TimeoutConnection:
        """
        A new connection.

        Raises:
            psycopg.OperationalError: The server refuses, or has not answered in time.

        """
        attempt = self._threads.submit(self._connect)
        try:
            return attempt.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            if not attempt.cancel():
                attempt.add_done_callback(_hang_up)
            raise psycopg.OperationalError(
                f"the database has not answered for {ANSWER_TIMEOUT_S} s"
            ) from None

    def close(self) -> None:
        """Make no more connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _connect(self) -> TimeoutConnection:
        # Transactions are begun by hand: psycopg's own begin cannot wait for the ledger's lock.
        return TimeoutConnection.connect(autocommit=True, **self._parameters)


def _hang_up(attempt: Future[TimeoutConnection]) -> None:
    """Close a connection that came when nobody waited for it any more."""
    if attempt.exception() is None:
        attempt.result().close()
