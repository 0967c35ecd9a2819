"""Queries that must not slow down with the number of requests or of revoked keys."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from stillhouse.store.accounts import keys, scopes
from stillhouse.store.database import Database

QUERIES = {
    "scopes to purge": scopes._SELECT_EXPIRED,
    "how many keys work": keys._COUNT_LIVE,
    "keys that work": keys._SELECT_LIVE,
    "keys of the last minute": keys._SELECT_TIMES_SINCE,
    "a key by its name": keys._SELECT_BY_NAME,
    "a key by its secret": keys._SELECT_BY_HMAC,
    "keys made since": keys._SELECT_LIVE_AFTER,
}


@pytest.mark.parametrize("name", QUERIES)
def test_query_reads_what_it_needs(tmp_path: Path, name: str) -> None:
    """It finds its rows by an index, and walks through no table: others wait for the writer."""
    path = tmp_path / "ledger.db"
    Database.open(path).close()
    query: Select[tuple[object, ...]] = QUERIES[name]
    sql = str(query.compile(dialect=sqlite.dialect()))
    ledger = sqlite3.connect(path)
    plan = ledger.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?")).fetchall()
    ledger.close()
    walked = [step for *_, step in plan if step.startswith("SCAN")]
    assert [] == [step for step in walked if "ix_request_held" not in step]  # held ones are few
