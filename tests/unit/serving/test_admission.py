from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.clock import FrozenClock
from stillhouse.errors import (
    ContextLengthError,
    InsufficientFundsError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from stillhouse.serving.admission.config import RateLimitsConfig
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.queue.scheduler import Ticket
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.service_tier import ServiceTier
from tests.unit.billing.conftest import insert_customer
from tests.unit.serving.conftest import SteppedEngine, events_of, replicas_of


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@pytest.fixture
def rules():
    return RateLimitsConfig(max_outstanding=2, requests_per_minute=4, tokens_per_minute=1000)


async def test_an_account_has_so_many_in_flight(serving):
    """One more than the limit is refused, another account is not, and an end makes room."""
    serving.engine.gate.clear()
    first, _ = [await serving.open() for _ in range(2)]
    with pytest.raises(RateLimitError, match="Rate limited") as refusal:
        await serving.open()
    account_id, key_id = await serving.database.write(insert_customer("other"))
    await serving.open(principal=replace(serving.principal, account_id=account_id, key_id=key_id))
    serving.engine.gate.set()
    await events_of(first)
    await serving.completions.drain(grace_s=5)

    assert 1 == refusal.value.retry_after_s
    await serving.answer()


async def test_limits_come_before_the_work(serving):
    """A prompt that could not be rendered is not looked at when the account is at its limit."""
    serving.engine.gate.clear()
    for _ in range(2):
        await serving.open()
    with pytest.raises(RateLimitError, match="Rate limited"):
        await serving.open(messages=())
    serving.engine.gate.set()
    await serving.completions.drain(grace_s=5)

    with pytest.raises(InvalidRequestError):
        await serving.open(messages=())


async def test_a_refusal_leaves_its_place(serving):
    """Requests that their account cannot pay take no place from those that it can."""
    await serving.ledger.limits.set_key_limit(serving.principal.key_id, 0)
    for _ in range(3):
        with pytest.raises(InsufficientFundsError, match="You need positive balance"):
            await serving.open()

    assert 0 == serving.outstanding()


async def test_a_minutes_tokens_are_prompt_and_completion(serving):
    """What was generated counts from the moment that it ended."""
    used_tokens = (await serving.answer(max_tokens=1000))[-1].usage.total_tokens
    await serving.completions.drain(grace_s=5)
    with pytest.raises(RateLimitError, match="1000 tokens per minute") as refusal:
        await serving.open()

    assert pytest.approx((used_tokens - 999) * 60 / 1000) == refusal.value.retry_after_s
    serving.clock.advance(refusal.value.retry_after_s)
    await serving.answer()


@pytest.mark.parametrize("context_length", [1, 6, 7])
async def test_a_prompt_beyond_the_engines_memory(serving, context_length):
    """Where the engine holds less than the model could, that is said before anything is held."""
    serving.engine.context_length = context_length  # the prompt has 7 tokens
    with pytest.raises(ContextLengthError, match=f"maximum input length {context_length - 1}"):
        await serving.open(n=4, max_tokens=None)

    assert [] == await serving.rows()


def test_a_model_has_so_many_places(rules, queue_rules):
    """Where all accounts together are too many, the model is busy for each."""
    admission = AdmissionController(
        queue_rules.model_copy(update={"max_outstanding": 2}),
        limits=RateLimiter(rules, FrozenClock()),
        clock=FrozenClock(),
        metrics=Metrics(),
    )

    def take(account_id, model_id="demo/a"):
        ticket = Ticket(account_id, 1, ServiceTier.DEFAULT, num_sequences=1, prompt_tokens=1)
        return admission.admit(ticket, model_id=model_id, replicas=replicas_of(SteppedEngine()))

    taken = [take(account_id) for account_id in (3, 4)]
    with pytest.raises(OverloadedError, match="Model busy"):
        take(5)
    take(5, "demo/b")
    taken[0].release()

    take(5)


def controller_of(queue_rules, max_outstanding):
    """An admission controller whose accounts have no limit of their own."""
    return AdmissionController(
        queue_rules.model_copy(update={"max_outstanding": max_outstanding}),
        limits=RateLimiter(RateLimitsConfig(max_outstanding=10_000), FrozenClock()),
        clock=FrozenClock(),
        metrics=Metrics(),
    )


def try_to_take(admission, account_id, key_id=1):
    """A place for a request, or None where it is refused."""
    ticket = Ticket(account_id, key_id, ServiceTier.DEFAULT, num_sequences=1, prompt_tokens=1)
    try:
        return admission.admit(ticket, model_id="demo/a", replicas=replicas_of(SteppedEngine()))
    except OverloadedError:
        return None


def fill(admission, account_id, num_keys):
    """All that an account gets, its keys in turn."""
    taken, before = [], None
    while len(taken) != before:
        before = len(taken)
        taken += [
            place for key in range(num_keys) if (place := try_to_take(admission, account_id, key))
        ]
    return taken


@pytest.mark.parametrize("num_keys", [1, 20])
def test_an_account_leaves_places_for_another_one(queue_rules, num_keys):
    """However many keys it has: the other account gets the last eighth."""
    admission = controller_of(queue_rules, 96)
    heavy, light = fill(admission, 1, num_keys), fill(admission, 2, 1)

    assert 74 <= len(heavy) <= 84
    assert 12 <= len(light)


async def test_a_key_for_other_models_is_refused(serving):
    """The refusal names what the key may use; nothing is held."""
    principal = replace(serving.principal, allowed_models=frozenset({"a/b", "c/d"}))
    with pytest.raises(PermissionDeniedError, match="a/b, c/d"):
        await serving.open(principal=principal)

    assert [] == await serving.rows()


async def test_a_key_for_this_model_is_let_in(serving):
    """A list that has the model is no hindrance."""
    principal = replace(serving.principal, allowed_models=frozenset({DEMO_MODEL}))
    await serving.answer(principal=principal)

    assert 1 == len(await serving.rows())


@pytest.mark.parametrize(
    ("tier", "factor", "priority"),
    [
        (ServiceTier.PRIORITY, Fraction(3, 2), 0),
        (ServiceTier.DEFAULT, Fraction(1), 0),
        (ServiceTier.FLEX, Fraction(4, 5), 1),
    ],
)
async def test_a_tier_has_its_turn_its_price_and_its_record(serving, tier, factor, priority):
    """Priority costs half as much more and is no more to the engine, flex less and goes last."""
    opened = await serving.open(tier=tier)
    finish = (await events_of(opened))[-1]
    query = "SELECT service_tier FROM request JOIN price_version ON price_version = version"
    recorded = await serving.database.read(
        lambda connection: connection.exec_driver_sql(query).scalar_one()
    )

    assert serving.model.price.cost_picousd(finish.usage) * factor == finish.cost_picousd
    assert [priority] == [request.priority for request in serving.engine.requests]
    assert (tier, tier) == (opened.meta.tier, recorded)


async def test_what_cannot_be_run_is_refused_before_it_holds_anything(serving):
    """A fault that only the words' own room can see costs neither money nor a place."""
    with pytest.raises(InvalidRequestError):
        await serving.open(stop=("x" * 10_000,))

    assert [] == await serving.rows()
    assert 0 == serving.outstanding()
