from __future__ import annotations

import asyncio

from stillhouse.billing.idempotency import LIFETIME_MS, Answer, PastRequests
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import IdempotencyConflictError
from stillhouse.store.database import Database
from stillhouse.telemetry.background import BackgroundLoops, Loop
from stillhouse.types.events import ChoiceAnswer, FinishReason
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences

IDEMPOTENCY_KEY = IdempotencyKey("order-7", b"f" * 32)
USAGE = TokenUsage(149, 0, 338)


def said(content, reasoning=""):
    choice = ChoiceAnswer(content, reasoning, (), (), FinishReason.STOP)
    return Answer((choice,), reasoning_tokens=len(reasoning))


async def hold(books, ledger, *, request_id, idempotency_key=IDEMPOTENCY_KEY):
    return await ledger.hold(
        request_id=request_id,
        account_id=books.account_id,
        key_id=books.key_id,
        price=books.price,
        prompt_tokens=149,
        max_tokens=338,
        idempotency_key=idempotency_key,
    )


async def settle(books, held, *, answer):
    await books.ledger.settle(held, usage=USAGE, outcome=Outcome.STOP, answer=answer)


async def test_of_many_at_two_gateways_one_is_first(verified, place):
    """Two processes on one ledger admit one of forty requests of the same name."""
    with Database.open(place) as database:
        beside = Ledger(database, verified.clock)
        results = await asyncio.gather(
            *(
                hold(verified, (verified.ledger, beside)[number % 2], request_id=f"r{number}")
                for number in range(40)
            ),
            return_exceptions=True,
        )
        await beside.close()

    assert 1 == sum(isinstance(result, Hold) for result in results)
    assert 39 == sum(isinstance(result, IdempotencyConflictError) for result in results)


async def test_the_other_gateway_knows_the_answer(verified, place):
    """What one process was told, another repeats, with the numbers of the ledger's row."""
    held = await hold(verified, verified.ledger, request_id="r1")
    answer = said("It is 7.", "3 + 4 is 7")
    await settle(verified, held, answer=answer)
    with Database.open(place) as database:
        past = await PastRequests(database, verified.clock).find(
            verified.account_id, IDEMPOTENCY_KEY
        )

    assert past
    assert ("r1", verified.price.model, verified.price.tier) == (
        past.request_id,
        past.model,
        past.tier,
    )
    assert (USAGE, verified.price.cost_picousd(USAGE)) == (past.usage, past.cost_picousd)
    assert (answer, verified.clock.now_ms()) == (past.answer, past.created_at_ms)


async def test_settling_again_keeps_the_first_answer(verified):
    """A repeated settlement, as after a lost acknowledgement, changes nothing."""
    held = await hold(verified, verified.ledger, request_id="r1")
    first = said("first")
    await settle(verified, held, answer=first)
    await settle(verified, held, answer=said("second"))
    past = await PastRequests(verified.database, verified.clock).find(
        verified.account_id, IDEMPOTENCY_KEY
    )

    assert first == (past and past.answer)


async def test_verify_finds_a_charge_without_its_answer(books):
    """A name that was answered without a charge, or the reverse, is a difference."""
    held = await hold(books, books.ledger, request_id="r1")
    await settle(books, held, answer=said(""))
    await hold(books, books.ledger, request_id="r2", idempotency_key=IdempotencyKey("order-8", b""))
    await books.tamper("UPDATE idempotency_key SET answer = NULL WHERE key = 'order-7'")
    await books.tamper("UPDATE idempotency_key SET answer = '{}' WHERE key = 'order-8'")

    assert ["request r1", "request r2"] == sorted(
        difference.subject for difference in await audit_differences(books.ledger)
    )


async def test_answers_are_forgotten_by_themselves(verified):
    """A running server deletes what has expired, without being asked."""
    held = await hold(verified, verified.ledger, request_id="r1")
    await settle(verified, held, answer=said(""))
    verified.clock.advance(LIFETIME_MS / 1000)
    past_requests = PastRequests(verified.database, verified.clock)
    async with BackgroundLoops(verified.clock) as background, asyncio.timeout(10):
        background.start(Loop("purge", past_requests.purge, interval_s=0))
        while await verified.rows("SELECT 1 FROM idempotency_key"):
            pass

    assert [("SETTLED",)] == await verified.rows("SELECT state FROM request")
