from __future__ import annotations

from stillhouse.fairness.counter import VirtualTokenCounter

HEAVY, LIGHT, NEW = 1, 2, 3
CREDIT = 20


def begin(counter, owner_id, *, charged):
    """A request that goes at once and stays at the engine."""
    counter.enter(owner_id)
    counter.stop_waiting(owner_id)
    counter.charge(owner_id, charged)


def test_what_an_owner_was_served_adds_up():
    """Charges count, and what was found in a cache is taken back."""
    counter = VirtualTokenCounter(credit=CREDIT)
    begin(counter, HEAVY, charged=100)
    counter.charge(HEAVY, -64)
    counter.charge(HEAVY, 2)

    assert 38 == counter.of(HEAVY)


def test_a_newcomer_is_lifted_to_the_credit_below_the_least_that_waits():
    """Who comes late has saved no more than that up, and owes nothing."""
    counter = VirtualTokenCounter(credit=CREDIT)
    counter.enter(HEAVY)
    counter.enter(LIGHT)
    counter.charge(HEAVY, 500)
    counter.charge(LIGHT, 300)
    counter.enter(NEW)

    assert (500, 300, 300 - CREDIT) == tuple(
        counter.of(owner_id) for owner_id in (HEAVY, LIGHT, NEW)
    )


def test_a_newcomer_to_an_empty_queue_is_lifted_by_the_last_that_left_it():
    """What others were served while nobody waited is no credit either, nor what comes after."""
    counter = VirtualTokenCounter(credit=CREDIT)
    begin(counter, HEAVY, charged=500)
    counter.charge(HEAVY, 50)
    counter.enter(NEW)

    assert 550 - CREDIT == counter.of(NEW)


def test_who_was_served_little_keeps_what_it_has_to_come():
    """Within the credit, an owner of whom nothing waits for a moment keeps its count."""
    counter = VirtualTokenCounter(credit=CREDIT)
    counter.enter(HEAVY)
    counter.charge(HEAVY, CREDIT)
    begin(counter, LIGHT, charged=5)
    counter.enter(LIGHT)

    assert 5 == counter.of(LIGHT)


def test_a_lift_never_lowers():
    """Coming back from idle forgives no debt while others have less."""
    counter = VirtualTokenCounter(credit=CREDIT)
    begin(counter, LIGHT, charged=10)
    counter.enter(LIGHT)
    begin(counter, HEAVY, charged=500)
    counter.end(HEAVY)
    counter.enter(HEAVY)

    assert 500 == counter.of(HEAVY)


def test_all_is_forgotten_when_nobody_has_anything():
    """A busy time that is over leaves nothing behind."""
    counter = VirtualTokenCounter(credit=CREDIT)
    for owner_id in range(1000):
        begin(counter, owner_id, charged=owner_id)
    for owner_id in range(1000):
        counter.end(owner_id)

    assert 0 == len(counter)
    counter.enter(NEW)
    assert 0 == counter.of(NEW)


def test_what_is_remembered_of_a_long_busy_time_is_bounded():
    """Ten thousand owners that come and go beside one that stays leave a few hundred."""
    counter = VirtualTokenCounter(credit=CREDIT)
    begin(counter, LIGHT, charged=0)
    counter.enter(LIGHT)
    for owner_id in range(10, 10_000):
        begin(counter, owner_id, charged=owner_id)
        counter.end(owner_id)

    assert len(counter) < 300
    assert 9_999 == counter.of(9_999)


def test_who_is_forgotten_is_lifted_as_before():
    """The last to leave an empty queue may rest and be forgotten: its count stays the lift."""
    counter = VirtualTokenCounter(credit=CREDIT)
    others = range(10, 400)
    for owner_id in (LIGHT, *others):
        begin(counter, owner_id, charged=0)
    begin(counter, HEAVY, charged=100)
    counter.end(HEAVY)
    for owner_id in others:
        counter.charge(owner_id, 1000)
        counter.end(owner_id)
    is_forgotten = counter.of(HEAVY) == 0
    counter.enter(NEW)

    assert is_forgotten
    assert 100 - CREDIT == counter.of(NEW)


def test_work_outside_the_queue_is_charged_to_whoever_it_was_for():
    """An owner with nothing here begins where a newcomer does, and behind that by its charge."""
    counter = VirtualTokenCounter(credit=CREDIT)
    counter.enter(HEAVY)
    counter.charge(HEAVY, 500)
    counter.charge(NEW, 70)
    counter.enter(NEW)

    assert 500 - CREDIT + 70 == counter.of(NEW)


def test_work_outside_an_idle_queue_counts_for_nothing():
    """There is nobody to be fair to, and nothing is remembered."""
    counter = VirtualTokenCounter(credit=CREDIT)
    for owner_id in range(1000):
        counter.charge(owner_id, 70)

    assert 0 == len(counter)
    assert counter.is_idle


def test_charges_of_owners_that_never_come_are_bounded():
    """Work for ten thousand owners that have nothing here leaves a few hundred counts."""
    counter = VirtualTokenCounter(credit=CREDIT)
    counter.enter(HEAVY)
    for owner_id in range(10, 10_000):
        counter.charge(owner_id, 70)

    assert len(counter) < 300
