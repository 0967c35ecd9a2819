"""
Declares the ledger's tables.

Money is integer pico-dollars (``*_picousd``), time is UTC milliseconds since 1970 (``*_at_ms``).
NULL means unknown and is never the same as 0. Migrations create these tables; a test checks that
both agree.
"""

from stillhouse.store.tables.accounts import account, api_key, pepper, scope
from stillhouse.store.tables.identity import ledger
from stillhouse.store.tables.metadata import metadata
from stillhouse.store.tables.money import balance, entry, top_up
from stillhouse.store.tables.requests import idempotency_key, price_version, rate, request
from stillhouse.store.tables.usage import archive, archived_day, carried, usage_day

__all__ = [
    "account",
    "api_key",
    "archive",
    "archived_day",
    "balance",
    "carried",
    "entry",
    "idempotency_key",
    "ledger",
    "metadata",
    "pepper",
    "price_version",
    "rate",
    "request",
    "scope",
    "top_up",
    "usage_day",
]
