"""Timeouts after which a database that does not answer counts as down."""

from __future__ import annotations

from sqlalchemy import Connection

#: Less than the second within which a request must be refused when the ledger cannot be used.
ANSWER_TIMEOUT_S = 0.6

#: For statements that read or write much, and that no request waits for.
LONG_ANSWER_TIMEOUT_S = 600.0


def extend_timeout(connection: Connection) -> None:
    """Raises the timeout of this transaction's statements, for those that read a whole ledger."""
    driver = connection.connection.driver_connection
    if driver is not None and hasattr(driver, "answer_timeout_s"):
        driver.answer_timeout_s = LONG_ANSWER_TIMEOUT_S
