"""
Enforces rate limits over all gateways of a database: requests in flight, and per minute.

The statements are PostgreSQL's, as a file has one gateway, which counts in its memory.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from stillhouse.store.backends.prepared import Prepared

MINUTE_NS = 60_000_000_000

#: By the database's own clock, which all gateways agree about to the microsecond.
_NOW_NS = "(CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) * 1000)"

_IN_FLIGHT = Prepared(
    text("""
    SELECT count(*), count(*) FILTER (WHERE key_id = :key_id)
    FROM request
    WHERE state = 'HELD' AND account_id = :account_id AND price_version IN (
        SELECT other.version
        FROM price_version AS this JOIN price_version AS other ON other.model = this.model
        WHERE this.version = :price_version
    )
    """)
)
_TAKE = Prepared(
    text(f"""
    INSERT INTO rate AS kept (account_id, model, kind, full_at_ns)
    SELECT :account_id, model, :kind, {_NOW_NS} + :cost_ns
    FROM price_version WHERE version = :price_version
    ON CONFLICT (account_id, model, kind) DO UPDATE
    SET full_at_ns = greatest(kept.full_at_ns, {_NOW_NS}) + :cost_ns
    WHERE kept.full_at_ns <= {_NOW_NS} + :ahead_ns
    """)  # noqa: S608 - of constants
)
_WAIT = Prepared(
    text(f"""
    SELECT full_at_ns - :ahead_ns - {_NOW_NS}
    FROM rate JOIN price_version USING (model)
    WHERE version = :price_version AND account_id = :account_id AND kind = :kind
    """)  # noqa: S608 - of constants
)


def count_in_flight(
    connection: Connection, *, account_id: int, key_id: int, price_version: int
) -> tuple[int, int]:
    """Returns the requests in flight of an account, and of a key, at the model of a price."""
    row = {"account_id": account_id, "key_id": key_id, "price_version": price_version}
    of_account, of_key = _IN_FLIGHT.run(connection, row).fetchone()
    return of_account, of_key


def take(  # noqa: PLR0913 - whose minute, and how much of it
    connection: Connection,
    *,
    account_id: int,
    price_version: int,
    kind: str,
    cost_ns: int,
    ahead_ns: int,
) -> float:
    """
    Postpones the moment when a minute is refilled, unless that is too far ahead already.

    Args:
        cost_ns: The time to add.
        ahead_ns: The farthest that the moment may have been ahead.

    Returns:
        0; or, if nothing was postponed, the seconds until it can be.

    Source:
        The generic cell rate algorithm, ITU-T I.371.

    """
    row = {
        "account_id": account_id,
        "price_version": price_version,
        "kind": kind,
        "ahead_ns": ahead_ns,
    }
    if _TAKE.run(connection, {**row, "cost_ns": cost_ns}).rowcount:
        return 0
    return max(1, int(_WAIT.run(connection, row).fetchone()[0])) / 1e9
