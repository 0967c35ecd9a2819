from __future__ import annotations

from stillhouse.serving.queue.service import Service

HEAVY, LIGHT, NEW = 1, 2, 3
CREDIT = 20


def begin(service, key_id, *, charged):
    """A request that goes at once and stays at the engine."""
    service.enter(key_id)
    service.stop_waiting(key_id)
    service.charge(key_id, charged)


def test_what_a_key_was_served_adds_up():
    """Charges count, and what was found in a cache is taken back."""
    service = Service(credit=CREDIT)
    begin(service, HEAVY, charged=100)
    service.charge(HEAVY, -64)
    service.charge(HEAVY, 2)

    assert 38 == service.of(HEAVY)


def test_a_newcomer_is_lifted_to_the_credit_below_the_least_that_waits():
    """Who comes late has saved no more than that up, and owes nothing."""
    service = Service(credit=CREDIT)
    service.enter(HEAVY)
    service.enter(LIGHT)
    service.charge(HEAVY, 500)
    service.charge(LIGHT, 300)
    service.enter(NEW)

    assert (500, 300, 300 - CREDIT) == tuple(service.of(key_id) for key_id in (HEAVY, LIGHT, NEW))


def test_a_newcomer_to_an_empty_queue_is_lifted_by_the_last_that_left_it():
    """What others were served while nobody waited is no credit either, nor what comes after."""
    service = Service(credit=CREDIT)
    begin(service, HEAVY, charged=500)
    service.charge(HEAVY, 50)
    service.enter(NEW)

    assert 550 - CREDIT == service.of(NEW)


def test_who_was_served_little_keeps_what_it_has_to_come():
    """Within the credit, a key of whom nothing waits for a moment keeps its count."""
    service = Service(credit=CREDIT)
    service.enter(HEAVY)
    service.charge(HEAVY, CREDIT)
    begin(service, LIGHT, charged=5)
    service.enter(LIGHT)

    assert 5 == service.of(LIGHT)


def test_a_lift_never_lowers():
    """Coming back from idle forgives no debt while others have less."""
    service = Service(credit=CREDIT)
    begin(service, LIGHT, charged=10)
    service.enter(LIGHT)
    begin(service, HEAVY, charged=500)
    service.end(HEAVY)
    service.enter(HEAVY)

    assert 500 == service.of(HEAVY)


def test_all_is_forgotten_when_nobody_has_anything():
    """A busy time that is over leaves nothing behind."""
    service = Service(credit=CREDIT)
    for key_id in range(1000):
        begin(service, key_id, charged=key_id)
    for key_id in range(1000):
        service.end(key_id)

    assert 0 == len(service)
    service.enter(NEW)
    assert 0 == service.of(NEW)


def test_what_is_remembered_of_a_long_busy_time_is_bounded():
    """Ten thousand keys that come and go beside one that stays leave a few hundred."""
    service = Service(credit=CREDIT)
    begin(service, LIGHT, charged=0)
    service.enter(LIGHT)
    for key_id in range(10, 10_000):
        begin(service, key_id, charged=key_id)
        service.end(key_id)

    assert len(service) < 300
    assert 9_999 == service.of(9_999)


def test_who_is_forgotten_is_lifted_as_before():
    """The last to leave an empty queue may rest and be forgotten: its count stays the lift."""
    service = Service(credit=CREDIT)
    others = range(10, 400)
    for key_id in (LIGHT, *others):
        begin(service, key_id, charged=0)
    begin(service, HEAVY, charged=100)
    service.end(HEAVY)
    for key_id in others:
        service.charge(key_id, 1000)
        service.end(key_id)
    is_forgotten = service.of(HEAVY) == 0
    service.enter(NEW)

    assert is_forgotten
    assert 100 - CREDIT == service.of(NEW)
