from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.fairness.queue import FairQueue

CREDIT = 20


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    account_id: int
    key_id: int
    cost: int = 1


def dispatch(queue, item):
    queue.take(item)
    queue.charge(item.account_id, item.key_id, item.cost)


def drain(queue):
    """Serve one after the other, and yield each when it has gone."""
    while (item := queue.first()) is not None:
        dispatch(queue, item)
        queue.end(item)
        yield item


accounts = st.lists(st.integers(1, 30), min_size=2, max_size=8)  # how many keys each has


@settings(deadline=None)
@given(accounts, st.integers(1, 50))
def test_an_account_with_many_keys_has_the_share_of_one_with_a_single_key(num_keys, cost):
    """While all wait, accounts are served the same, but for one item."""
    queue = FairQueue(credit=0)
    for account_id, keys in enumerate(num_keys):
        for number in range(60):
            queue.push(Item(account_id, 100 * account_id + number % keys, cost))
    served = Counter()
    for item in drain(queue):
        served[item.account_id] += 1
        if max(served.values()) == 60:
            break

        assert max(served.values()) - min(served[a] for a in range(len(num_keys))) <= 1


@settings(deadline=None)
@given(st.integers(2, 30), st.randoms(use_true_random=False))
def test_inside_an_account_its_keys_have_the_same_share(num_keys, random):
    """One key that sends nearly everything gets no more of it than the others."""
    queue = FairQueue(credit=0)
    items = [Item(1, 0) for _ in range(200)]
    items += [Item(1, key_id) for key_id in range(1, num_keys) for _ in range(10)]
    random.shuffle(items)
    for item in items:
        queue.push(item)
    served = Counter()
    for item in drain(queue):
        served[item.key_id] += 1
        if served[item.key_id] == 10:
            break

        assert max(served.values()) - min(served[k] for k in range(num_keys)) <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)), max_size=60))
def test_of_the_accounts_that_wait_the_least_served_goes_and_of_its_keys(pushed):
    """Both minima hold at each dispatch, and each key's items keep their order."""
    queue = FairQueue(credit=CREDIT)
    waiting = [Item(*each) for each in pushed]
    for item in waiting:
        queue.push(item)
    for _ in pushed:
        served = {item.account_id: queue.served(item.account_id) for item in waiting}
        item = queue.first()
        keys = {
            other.key_id: queue.served_key(other.account_id, other.key_id)
            for other in waiting
            if other.account_id == item.account_id
        }

        assert served[item.account_id] == min(served.values())
        assert keys[item.key_id] == min(keys.values())
        assert item is next(
            other
            for other in waiting
            if (other.account_id, other.key_id) == (item.account_id, item.key_id)
        )
        dispatch(queue, item)
        waiting.remove(item)
    assert queue.first() is None


def test_what_goes_back_to_the_front_goes_before_what_its_key_has_waiting():
    """An item that was dispatched in vain, and is charged nothing, is next again."""
    queue = FairQueue(credit=CREDIT)
    first, second = Item(1, 1), Item(1, 1)
    queue.push(first)
    queue.push(second)
    dispatch(queue, first)
    queue.charge(1, 1, -first.cost)
    queue.end(first)
    queue.push(first, at_front=True)

    assert [first, second] == list(drain(queue))


def test_accounts_that_may_not_go_are_passed_over():
    """Nor is anybody's place lost by it."""
    queue = FairQueue(credit=CREDIT)
    one, two = Item(1, 1), Item(2, 1)
    queue.push(one)
    queue.push(two)

    assert two is queue.first(lambda account_id: account_id != 1)
    assert queue.first(lambda account_id: False) is None
    assert one is queue.first()


def test_what_is_remembered_is_bounded_on_both_levels():
    """A thousand accounts, and one of a thousand keys, that come and go beside one that stays."""
    queue = FairQueue(credit=CREDIT)
    stays = Item(0, 0)
    queue.push(stays)
    keeps_account = Item(1, 0)
    queue.push(keeps_account)
    for number in range(1000):
        for item in (Item(1, 10 + number, 30 + number), Item(10 + number, 1, 30 + number)):
            queue.push(item)
            dispatch(queue, item)
            queue.end(item)

    assert queue.num_remembered < 350
    queue.remove(stays)
    queue.remove(keeps_account)
    assert 0 == queue.num_remembered
