import pytest

from stillhouse.clock import FrozenClock
from stillhouse.fairness import recent_work
from stillhouse.fairness.recent_work import RecentWork


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def work(clock):
    return RecentWork(half_life_s=60, clock=clock)


def test_half_is_forgotten_in_every_half_life(work, clock):
    """What comes later is added to what is left."""
    work.add(1, 8)
    clock.advance(60)
    assert 4 == pytest.approx(work.of(1))
    work.add(1, 4)
    clock.advance(120)
    assert 2 == pytest.approx(work.of(1))
    assert 0 == work.of(2)


def test_who_had_next_to_nothing_is_forgotten(work, clock):
    """So that memory is bounded by who is here."""
    for account_id in range(100):
        work.add(account_id, 1)
    clock.advance(3600)
    work.add(1000, 1)
    assert 1 == len(work)


def test_many_accounts_are_forgotten_from_the_oldest_on(work, monkeypatch):
    """However much each of them had."""
    monkeypatch.setattr(recent_work, "_MAX_REMEMBERED", 3)
    for account_id in (1, 2, 3, 1, 4):
        work.add(account_id, 1)
    assert [0, 1, 1] == [round(work.of(account_id)) for account_id in (2, 3, 4)]
    assert 2 == pytest.approx(work.of(1))
