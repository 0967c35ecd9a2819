"""Requests that are under way when their API key is revoked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.errors import AuthenticationError, StoreUnavailableError
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.revocation import RevocationCheck
from tests.unit.billing.conftest import insert_customer
from tests.unit.serving.conftest import events_of


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@pytest.fixture
def queue_rules():
    return QueueConfig(
        max_outstanding=10,
        max_wait_s=600,
        flex_max_wait_s=600,
        prompt_window_tokens=8,
    )


async def end_of(completion):
    """Read an answer to its end, which must come: the engine makes nothing of itself here."""
    async with asyncio.timeout(30):
        await events_of(completion)


class Keys:
    """What the ledger says of keys."""

    def __init__(self):
        self.revoked = set()
        self.asked = []
        self.is_down = False

    async def find_revoked(self, key_ids):
        self.asked.append(set(key_ids))
        if self.is_down:
            raise StoreUnavailableError("down")
        return self.revoked & set(key_ids)


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def check(serving, keys):
    return RevocationCheck(serving.completions, keys.find_revoked)


async def test_request_of_a_revoked_key_ends_and_is_charged(serving, keys, check):
    """It ends with an error that says why, and what was delivered is charged exactly."""
    serving.engine.gate.clear()
    running = await serving.open(max_tokens=400)
    await serving.engine.has_begun()
    keys.revoked = {serving.principal.key_id}
    await check.run()
    with pytest.raises(AuthenticationError, match=r"revoked while .* is charged"):
        await end_of(running)

    (row,) = await serving.rows("state, outcome, completion_tokens, cost_picousd")
    assert ("SETTLED", "revoked") == row[:2]
    assert running.charged
    assert row[2:] == (running.charged.usage.completion_tokens, running.charged.cost_picousd)
    assert 0 < row[2] < 400


async def test_waiting_request_of_a_revoked_key_leaves_the_queue(serving, keys, check):
    """What has not begun is told the same, and charged nothing; others go on."""
    account_id, key_id = await serving.database.write(insert_customer("other"))
    principal = replace(serving.principal, account_id=account_id, key_id=key_id)
    serving.engine.gate.clear()
    others = [await serving.open(max_tokens=4, principal=principal) for _ in range(2)]
    await serving.engine.has_begun(2)
    waiting = await serving.open()
    keys.revoked = {serving.principal.key_id}
    await check.run()
    with pytest.raises(AuthenticationError, match="revoked"):
        await end_of(waiting)
    serving.engine.gate.set()
    for running in others:
        await events_of(running)

    rows = await serving.rows("state, outcome, cost_picousd > 0")
    assert [("SETTLED", "length", 1)] * 2 + [("VOIDED", "revoked", 0)] == rows


async def test_named_request_of_a_revoked_key_ends_too(serving, keys, check):
    """An Idempotency-Key keeps a request alive when its client leaves, not when its key does."""
    serving.engine.gate.clear()
    running = await serving.open(max_tokens=400, idempotency_key=IdempotencyKey("mine", b"f" * 32))
    await serving.engine.has_begun()
    keys.revoked = {serving.principal.key_id}
    await check.run()
    with pytest.raises(AuthenticationError):
        await end_of(running)


async def test_check_asks_about_running_keys_alone(serving, keys, check):
    """While nothing runs the ledger is not asked; else once, about the keys that have requests."""
    await check.run()
    serving.engine.gate.clear()
    running = [await serving.open(max_tokens=4) for _ in range(2)]
    await check.run()
    serving.engine.gate.set()
    for completion in running:
        await events_of(completion)
    await serving.completions.drain(grace_s=30)
    await check.run()

    assert [{serving.principal.key_id}] == keys.asked


async def test_ledger_that_is_down_ends_nothing(serving, keys, check):
    """Nobody can say that a key is revoked, so what runs runs on."""
    serving.engine.gate.clear()
    running = await serving.open(max_tokens=4)
    keys.is_down = True
    await check.run()
    serving.engine.gate.set()
    await events_of(running)

    assert [("SETTLED", "length", 4)] == await serving.rows()
