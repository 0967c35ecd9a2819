"""How long a database may take to answer before it counts as down."""

from __future__ import annotations

from sqlalchemy import Connection

#: Less than the second within which a request must be refused when the ledger cannot be used.
ANSWER_TIMEOUT_S = 0.6

#: For what reads or writes much, while nobody's request waits for it.
LONG_ANSWER_TIMEOUT_S = 600.0


def extend_timeout(connection: Connection) -> None:
    """Let each of this transaction's statements take as long as a large ledger needs."""
    driver = connection.connection.driver_connection
    if driver is not None and hasattr(driver, "answer_timeout_s"):
        driver.answer_timeout_s = LONG_ANSWER_TIMEOUT_S
