from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.idempotency import LIFETIME_MS, Answer
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    IdempotencyConflictError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    InvalidRequestError,
)
from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.messages import ToolCall
from tests.unit.billing.conftest import insert_customer
from tests.unit.serving.conftest import events_of

IDEMPOTENCY_KEY = IdempotencyKey("order-7", b"f" * 32)
OTHER_BODY = IdempotencyKey("order-7", b"g" * 32)
DAY_S = LIFETIME_MS / 1000
SETTLED = ("SETTLED", "length", 3)


def text_of(events):
    """What was reasoned and said, without regard to its pieces, and how it ended."""
    *deltas, finish = events
    assert isinstance(finish, Finish)
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas), finish


async def test_a_repetition_gets_the_first_answer(serving):
    """Said twice, a request runs once, is charged once and is answered the same."""
    first = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    answer = await events_of(first)
    serving.clock.advance(60)
    again = await serving.open(idempotency_key=IDEMPOTENCY_KEY)

    assert (False, True) == (first.is_replay, again.is_replay)
    assert first.meta == again.meta
    assert text_of(answer) == text_of(await events_of(again))
    assert [SETTLED] == await serving.rows()
    assert 1 == len(serving.engine.requests)


async def test_while_the_first_runs_a_repetition_is_told_to_wait(serving):
    """In flight there is neither a second generation nor half an answer."""
    serving.engine.gate.clear()
    first = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    with pytest.raises(IdempotencyConflictError, match="still running"):
        await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    serving.engine.gate.set()
    await events_of(first)

    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay


async def test_fifty_at_once_are_one(serving):
    """Of fifty that race, one is generated and charged; all others wait or get its answer."""
    opened = await asyncio.gather(
        *(serving.answer(idempotency_key=IDEMPOTENCY_KEY) for _ in range(50)),
        return_exceptions=True,
    )
    answers = [text_of(answer) for answer in opened if isinstance(answer, list)]

    assert {IdempotencyConflictError} >= {type(o) for o in opened if isinstance(o, Exception)}
    assert 1 <= len(answers) == answers.count(answers[0])
    assert [SETTLED] == await serving.rows()
    assert 1 == len(serving.engine.requests)


@pytest.mark.parametrize("is_running", [True, False])
async def test_another_body_under_the_same_name_is_a_mistake(serving, is_running):
    """A name stands for one request, running or answered."""
    if is_running:
        serving.engine.gate.clear()
    first = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    if not is_running:
        await events_of(first)
    with pytest.raises(IdempotencyMismatchError, match="order-7"):
        await serving.open(idempotency_key=OTHER_BODY)
    serving.engine.gate.set()
    if is_running:
        await events_of(first)

    assert [SETTLED] == await serving.rows()


async def test_accounts_have_names_of_their_own(serving):
    """Another account's same name is another request."""
    account_id, key_id = await serving.database.write(insert_customer("other"))
    other = replace(serving.principal, account_id=account_id, key_id=key_id)
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    await serving.answer(idempotency_key=OTHER_BODY, principal=other)

    assert [SETTLED, SETTLED] == await serving.rows()


async def test_what_failed_may_be_tried_again(serving):
    """A request that our engine failed is void, and its name is free."""
    serving.engine.failure = EngineCrashedError("it died")
    with pytest.raises(EngineCrashedError):
        await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    serving.engine.failure = None
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)

    assert [("VOIDED", "engine_error", 0), SETTLED] == await serving.rows()


async def test_what_was_refused_may_be_tried_again(serving):
    """A request that was never admitted has not used up its name."""
    await serving.ledger.limits.set_key_limit(serving.principal.key_id, 0)
    with pytest.raises(InsufficientFundsError):
        await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    await serving.ledger.limits.set_key_limit(serving.principal.key_id, None)
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)

    assert [SETTLED] == await serving.rows()


async def test_a_lost_gateway_frees_the_name(serving):
    """What a killed server left is voided by the sweep, and runs anew when it is repeated."""
    await serving.ledger.hold(
        request_id="lost",
        account_id=serving.principal.account_id,
        key_id=serving.principal.key_id,
        price=serving.model.price,
        prompt_tokens=1,
        max_tokens=1,
        idempotency_key=IDEMPOTENCY_KEY,
    )
    serving.clock.advance(LEASE_MS / 1000)
    await serving.ledger.leases.sweep()
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)

    assert [("VOIDED", "gateway_lost", None), SETTLED] == await serving.rows()


async def test_it_goes_on_when_the_client_leaves(serving):
    """A client that named its request and vanished finds the whole answer when it asks again."""
    serving.engine.gate.clear()
    first = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    first.stop(Outcome.CLIENT_DISCONNECT)
    serving.engine.gate.set()

    assert [] == await events_of(first)
    again = await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    assert [SETTLED] == await serving.rows()
    assert text_of(again) == text_of(await serving.answer())


async def test_a_drained_answer_is_no_answer(serving):
    """What maintenance cut short is charged, told as an error, and made anew for a repetition."""
    serving.engine.gate.clear()
    first = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    await serving.engine.has_begun()
    first.stop(Outcome.DRAINED)
    with pytest.raises(EngineUnavailableError, match="shut down"):
        await events_of(first)

    again = await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    assert 3 == again[-1].usage.completion_tokens
    assert [("SETTLED", "drained", 2), SETTLED] == await serving.rows()


async def test_a_name_lasts_a_day(serving):
    """After 24 hours by the ledger's clock, the same name is a new request."""
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    serving.clock.advance(DAY_S - 1)
    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay
    serving.clock.advance(1)
    await serving.answer(idempotency_key=OTHER_BODY)

    assert [SETTLED, SETTLED] == await serving.rows()


async def test_past_answers_are_purged(serving, monkeypatch):
    """What has expired is deleted, in as many short transactions as it takes, and nothing else."""
    monkeypatch.setattr("stillhouse.billing.idempotency.PURGE_BATCH", 2)
    for number in range(3):
        await serving.answer(idempotency_key=IdempotencyKey(f"old-{number}", b""))
    serving.clock.advance(DAY_S)
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)

    assert (3, 0) == (await serving.past_requests.purge(), await serving.past_requests.purge())
    assert 1 == await serving.num_claims()
    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay


async def test_an_answer_that_is_too_large_is_charged_but_not_kept(serving, monkeypatch):
    """A repetition is told so; it neither runs again nor gets half of it."""
    monkeypatch.setattr("stillhouse.billing.idempotency.MAX_ANSWER_BYTES", 10)
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    with pytest.raises(InvalidRequestError, match="too large to be kept"):
        await serving.open(idempotency_key=IDEMPOTENCY_KEY)

    assert [SETTLED] == await serving.rows()


@pytest.mark.parametrize("text", ["", "plain", "Zoë\n\x00\U0001f35a", "</think>"])
def test_any_text_is_kept_as_it_was(text):
    """Characters that a database might not take survive, in every part of an answer."""
    call = ToolCall("call_1", "find", text)
    drawn = Logprob(3, text.encode()[:3], -0.25)
    choice = ChoiceAnswer(
        text, text[::-1], (call,), (TokenLogprobs(drawn, (drawn,)),), FinishReason.TOOL_CALLS, text
    )
    answer = Answer((choice, choice), reasoning_tokens=7)
    assert answer == msgspec.json.decode(answer.encode(), type=Answer)


async def test_without_a_name_two_requests_are_two(serving):
    """Only the header makes a request a repetition."""
    await serving.answer()
    await serving.answer()

    assert [SETTLED, SETTLED] == await serving.rows()
    assert 0 == await serving.num_claims()
