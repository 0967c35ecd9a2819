"""Connections to PostgreSQL with timeouts on every exchange."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from stillhouse.store.backends.timeouts import ANSWER_TIMEOUT_S

#: Connection attempts that may hang at once, each until its own timeout.
_MAX_ATTEMPTS = 8


class TimeoutConnection(psycopg.Connection[Any]):
    """
    A connection that closes itself if the server does not answer in time.

    psycopg would wait for ever. The server's own timeouts do not help against a network that drops
    their messages.
    """

    answer_timeout_s = ANSWER_TIMEOUT_S

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Waits for one exchange with the server, as psycopg does, but not longer than that."""
        return super().wait(self._answered(gen), *args, **kwargs)

    def _answered(self, exchange: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Runs psycopg's *exchange*, which is resumed every 0.1 s even if nothing has arrived."""
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
    Makes connections, each on a thread that can be abandoned.

    libpq's own timeout is in whole seconds, at least two, and does not cover the name look-up.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._threads = ThreadPoolExecutor(_MAX_ATTEMPTS, "ledger-connect")

    def __call__(self) -> TimeoutConnection:
        """
        Returns a new connection.

        Raises:
            psycopg.OperationalError: The server refused, or did not answer in time.

        """
        attempt = self._threads.submit(self._connect)
        try:
            return attempt.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            if not attempt.cancel():
                attempt.add_done_callback(_close_late)
            raise psycopg.OperationalError(
                f"the database has not answered for {ANSWER_TIMEOUT_S} s"
            ) from None

    def close(self) -> None:
        """Stops making connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _connect(self) -> TimeoutConnection:
        # Transactions are begun by hand: psycopg's own begin cannot wait for the ledger's lock.
        return TimeoutConnection.connect(autocommit=True, **self._parameters)


def _close_late(attempt: Future[TimeoutConnection]) -> None:
    """Closes a connection that was made after its caller had timed out."""
    if attempt.exception() is None:
        attempt.result().close()
