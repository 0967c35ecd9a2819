import pytest

from stillhouse.clock import FrozenClock
from stillhouse.text.grammar.verdicts import Verdicts


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def verdicts(clock):
    return Verdicts(max_remembered=2, bad_for_s=10, clock=clock)


def test_good_and_bad_are_told_apart_from_unknown(verdicts):
    """A good one has no fault, an unknown one no verdict."""
    verdicts.note(b"good", None)
    verdicts.note(b"bad", "takes long")
    assert (None,) == verdicts.find(b"good")
    assert ("takes long",) == verdicts.find(b"bad")
    assert verdicts.find(b"unknown") is None


def test_a_bad_one_is_forgotten_after_a_while(verdicts, clock):
    """A good one is not."""
    verdicts.note(b"good", None)
    verdicts.note(b"bad", "takes long")
    clock.advance(9.9)
    assert ("takes long",) == verdicts.find(b"bad")
    clock.advance(0.1)
    assert verdicts.find(b"bad") is None
    assert (None,) == verdicts.find(b"good")
    assert 1 == len(verdicts)


def test_what_was_not_asked_for_longest_goes_first(verdicts):
    """However many there are, so many are remembered."""
    for digest in (b"a", b"b"):
        verdicts.note(digest, None)
    verdicts.find(b"a")
    verdicts.note(b"c", "fault")
    assert 2 == len(verdicts)
    assert verdicts.find(b"b") is None
    assert (None,) == verdicts.find(b"a")
