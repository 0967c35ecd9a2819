from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    InsufficientFundsError,
    OverloadedError,
)
from stillhouse.types.events import ChoiceEnd, Finish, FinishReason, TextDelta
from stillhouse.types.sampling import SamplingOverrides
from tests.unit.serving.conftest import TARIFF, events_of


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


def by_choice(events):
    """The text of each answer."""
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            texts[event.choice] = texts.get(event.choice, "") + event.content + event.reasoning
    return texts


async def test_each_answer_is_a_sequence_of_its_own(serving):
    """The engine is asked once for each, under ids that belong together."""
    events = await serving.answer(n=3)

    assert ["request-0", "request-0/1", "request-0/2"] == [
        request.request_id for request in serving.engine.requests
    ]
    assert {0, 1, 2} == by_choice(events).keys()
    assert 1 == len({tuple(request.prompt_token_ids) for request in serving.engine.requests})


async def test_the_prompt_is_paid_once(serving):
    """All answers together are one row: one prompt and every token that was generated."""
    finish = (await serving.answer(n=3, max_tokens=5))[-1]

    assert [("SETTLED", "length", 15)] == await serving.rows()
    expected = TARIFF.cost_picousd(finish.usage)
    assert (15, expected) == (finish.usage.completion_tokens, finish.cost_picousd)
    prompt_tokens = len(serving.engine.requests[0].prompt_token_ids)
    assert prompt_tokens == finish.usage.prompt_tokens


async def test_every_answer_has_its_end(serving):
    """All but the last end by themselves; the last one's end carries the cost."""
    ends = [e for e in await serving.answer(n=4) if not isinstance(e, TextDelta)]

    assert [ChoiceEnd, ChoiceEnd, ChoiceEnd, Finish] == [type(end) for end in ends]
    assert {0, 1, 2, 3} == {end.choice for end in ends}
    assert {FinishReason.LENGTH} == {end.reason for end in ends}


async def test_a_seed_makes_different_answers(serving):
    """The first has the request's own seed, and each other one of its own."""
    sampling = SamplingOverrides(seed=7)
    await serving.answer(n=3, sampling=sampling)
    await serving.answer(n=2)

    assert [7, 8, 9, None, None] == [r.sampling.seed for r in serving.engine.requests]


async def test_the_hold_covers_them_all(serving):
    """An account that can pay one answer cannot ask for four."""
    one = TARIFF.ceiling_picousd(prompt_tokens=100, max_tokens=1000)
    await serving.ledger.limits.set_key_limit(serving.principal.key_id, one)
    with pytest.raises(InsufficientFundsError):
        await serving.open(n=4, max_tokens=1000)

    assert 1000 == (await serving.answer(max_tokens=1000))[-1].usage.completion_tokens


async def test_one_that_fails_fails_them_all(serving):
    """Nothing is charged for answers that belong to a request that failed."""
    serving.engine.failure = EngineCrashedError("it died")
    with pytest.raises(EngineCrashedError, match="it died"):
        await serving.answer(n=3)

    assert [("VOIDED", "engine_error", 0)] == await serving.rows()


async def test_a_client_that_leaves_ends_them_all(serving):
    """Every sequence is stopped, and what they made is charged."""
    serving.engine.gate.clear()
    opened = await serving.open(n=3, max_tokens=50)
    await serving.engine.has_begun(3)
    opened.stop(Outcome.CLIENT_DISCONNECT)
    serving.engine.gate.set()
    finish = (await events_of(opened))[-1]

    assert [("SETTLED", "client_disconnect", finish.usage.completion_tokens)] == (
        await serving.rows()
    )
    assert 150 > finish.usage.completion_tokens


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("num_turns", range(4))
async def test_who_left_before_the_engine_began(serving, n, num_turns):
    """However soon nobody reads, no sequence goes on; where none has begun, nothing is charged."""
    serving.engine.gate.clear()
    opened = await serving.open(n=n, max_tokens=50)
    for _ in range(num_turns):
        await asyncio.sleep(0)
    opened.stop(Outcome.CLIENT_DISCONNECT)
    serving.engine.gate.set()
    with suppress(EngineUnavailableError):
        await events_of(opened)

    ((state, outcome, completion_tokens, cost_picousd),) = await serving.rows(
        "state, outcome, completion_tokens, cost_picousd"
    )
    has_begun = bool(serving.engine.requests)
    assert ("SETTLED" if has_begun else "VOIDED", "client_disconnect") == (state, outcome)
    assert has_begun == (cost_picousd > 0)
    assert 2 * n >= completion_tokens


async def test_a_repetition_tells_them_all(serving):
    """A named request with several answers is replayed with each of them."""
    idempotency_key = IdempotencyKey("four", b"f" * 32)
    first = await serving.answer(n=4, idempotency_key=idempotency_key)
    again = await serving.answer(n=4, idempotency_key=idempotency_key)

    assert by_choice(first) == by_choice(again)
    assert first[-1].cost_picousd == again[-1].cost_picousd
    assert 4 == len(serving.engine.requests)


async def test_fail_fast_does_not_wait(serving):
    """Where the engine works on as much as it can, it is refused; others wait their turn."""
    serving.engine.gate.clear()
    running = [await serving.open() for _ in range(serving.engine.max_sequences)]
    await serving.engine.has_begun(2)
    with pytest.raises(OverloadedError, match="Model busy"):
        await serving.open(fail_fast=True)
    waiting = await serving.open()
    serving.engine.gate.set()
    for opened in (*running, waiting):
        await events_of(opened)
    await serving.completions.drain(grace_s=5)

    assert 3 == (await serving.answer(fail_fast=True))[-1].usage.completion_tokens
