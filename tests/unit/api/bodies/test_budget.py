from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.bodies.budget import BudgetRules, FairBudget
from stillhouse.errors import RateLimitError


def budget(total, per_account, *, max_waiting=99, max_wait_s=60):
    return FairBudget(
        BudgetRules(total, per_account, max_waiting=max_waiting, max_wait_s=max_wait_s), what="it"
    )


async def settle():
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_free_is_lent_at_once():
    """Nobody waits while there is enough."""
    lender = budget(10, 5)

    assert 3 == await lender.take(1, 3)
    assert 5 == await lender.take(2, 5)


async def test_more_than_a_share_is_the_share():
    """What could never be lent is not waited for."""
    assert 5 == await budget(10, 5).take(1, 999)


async def test_an_account_that_has_its_share_waits_and_others_do_not():
    """The whole is not one account's to take."""
    lender = budget(10, 5)
    await lender.take(1, 5)
    waiting = asyncio.create_task(lender.take(1, 1))
    await settle()

    assert 5 == await lender.take(2, 5)
    assert not waiting.done()
    lender.give_back(1, 5)
    assert 1 == await waiting


async def test_accounts_take_turns():
    """An account that waits with many is served once, and then the others are."""
    lender = budget(1, 1)
    order = []

    async def use(account_id):
        await lender.take(account_id, 1)
        order.append(account_id)
        lender.give_back(account_id, 1)

    await lender.take(0, 1)
    tasks = [asyncio.create_task(use(account_id)) for account_id in (1, 1, 1, 2, 3, 3)]
    await settle()
    lender.give_back(0, 1)
    await asyncio.gather(*tasks)

    assert [1, 2, 3, 1, 3, 1] == order


async def test_small_parts_do_not_overtake_a_large_one():
    """Who is next and needs much gets it, whatever else comes meanwhile."""
    lender = budget(10, 10)
    await lender.take(1, 6)
    large = asyncio.create_task(lender.take(2, 8))
    await settle()
    small = asyncio.create_task(lender.take(3, 1))
    await settle()
    assert not large.done()
    assert not small.done()
    lender.give_back(1, 6)

    assert [8, 1] == await asyncio.gather(large, small)


async def test_too_many_that_wait_are_refused():
    """One account's queue has an end, and says when to come back."""
    lender = budget(1, 1, max_waiting=1)
    await lender.take(1, 1)
    waiting = asyncio.create_task(lender.take(1, 1))
    await settle()

    with pytest.raises(RateLimitError, match="1 requests of the account wait for it") as refusal:
        await lender.take(1, 1)
    assert refusal.value.retry_after_s > 0
    lender.give_back(1, 1)
    await waiting


async def test_who_has_waited_too_long_is_refused():
    """Nobody waits for ever, and the queue forgets who has left."""
    lender = budget(1, 1, max_wait_s=0.001)
    await lender.take(1, 1)
    with pytest.raises(RateLimitError, match=r"has waited for 0\.001 s"):
        await lender.take(2, 1)
    assert 0 == lender.num_waiting(2)
    lender.give_back(1, 1)

    assert 1 == await lender.take(2, 1)


@pytest.mark.parametrize("is_lent_first", [True, False])
async def test_who_is_cancelled_keeps_nothing(is_lent_first):
    """Not even what was lent in the step in which it was cancelled."""
    lender = budget(1, 1)
    await lender.take(1, 1)
    waiting = asyncio.create_task(lender.take(2, 1))
    await settle()
    if is_lent_first:
        lender.give_back(1, 1)
        waiting.cancel()
    else:
        waiting.cancel()
        lender.give_back(1, 1)
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert 1 == await asyncio.wait_for(lender.take(3, 1), 5)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12), st.booleans()), max_size=12))
def test_never_more_than_there_is_and_never_stuck(steps):
    """Whatever is taken, given back and cancelled: within bounds, and all are served at last."""
    asyncio.run(use_up(steps))


async def use_up(steps):
    lender = budget(10, 6)
    held = []
    taken = Counter()

    async def use(account_id, amount):
        amount = await lender.take(account_id, amount)
        taken[account_id] += amount
        held.append((account_id, amount))
        assert taken.total() <= 10
        assert taken[account_id] <= 6

    def give_back():
        account_id, amount = held.pop()
        taken[account_id] -= amount
        lender.give_back(account_id, amount)

    tasks = []
    for account_id, amount, leaves in steps:
        tasks.append(asyncio.create_task(use(account_id, amount)))
        await settle()
        if leaves and len(tasks) % 2:
            tasks[len(tasks) // 2].cancel()
        elif leaves and held:
            give_back()
        await settle()
    while held:
        give_back()
        await settle()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(error is None or isinstance(error, asyncio.CancelledError) for error in ended)
    assert 6 == await asyncio.wait_for(lender.take(9, 6), 5)
