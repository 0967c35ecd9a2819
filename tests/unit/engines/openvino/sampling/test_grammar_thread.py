"""Whose grammar is compiled next, and what is kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.clock import FrozenClock
from stillhouse.engines.openvino.sampling import grammar_thread
from stillhouse.engines.openvino.sampling.grammar_thread import GrammarThread
from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Workshop:
    """A thread that compiles only when it is told to, and notes what it is given."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.begun: list[str] = []
        self._has_begun = threading.Semaphore(0)
        self._may_end = threading.Semaphore(0)
        self._is_there = threading.Semaphore(0)
        self.thread = GrammarThread(self._compile, self.clock, timeout_s=30)
        self.thread.wake = self._is_there.release

    def _compile(self, text: str, begun: Sequence[int]) -> Any:
        self.begun.append(text)
        self._has_begun.release()
        self._may_end.acquire()
        if text == "bad":
            raise InvalidRequestError("It is bad.")
        if text == "panic":
            raise SystemExit
        return (text, begun)

    def wait_for_beginning(self) -> None:
        self._has_begun.acquire()

    def end_one(self) -> None:
        """Let what is compiled end, after a second, or 3 for what is slow; and wait for it."""
        self._has_begun.acquire()
        self.clock.advance(3 if self.begun[-1].startswith("slow") else 1)
        self._may_end.release()
        self._is_there.acquire()

    def let_all_go(self) -> None:
        self._may_end.release(1000)


@pytest.fixture
def workshop():
    workshop = Workshop()
    yield workshop
    workshop.let_all_go()


def taken(workshop: Workshop, sequence_id: int) -> Any:
    compiled = workshop.thread.take(sequence_id)
    return compiled and compiled.matcher


def test_who_wants_many_holds_up_another_by_one(workshop):
    """The first grammar of an account comes right after the one that is being compiled."""
    for sequence_id in range(150):
        workshop.thread.want(sequence_id, "greedy", f"slow {sequence_id}")
    workshop.end_one()
    workshop.thread.want(1000, "modest", "small")
    workshop.end_one()
    workshop.end_one()
    assert "small" in workshop.begun[1:3]
    assert ("small", ()) == taken(workshop, 1000)
    assert taken(workshop, 149) is None


def test_the_next_is_who_had_the_least(workshop):
    """Accounts share the thread's time, not the number of their grammars."""
    for number in range(9):
        workshop.thread.want(number, "slow", f"slow {number}")
        workshop.thread.want(100 + number, "fast", f"fast {number}")
    for _ in range(9):
        workshop.end_one()
    assert 6 == sum(text.startswith("fast") for text in workshop.begun[:8])
    assert {"slow", "fast"} == {salt for salt, _ in workshop.thread.take_times()}


def test_a_grammar_is_compiled_once_for_its_account(workshop):
    """Whoever wants it while it is compiled, or after, has the same one."""
    for sequence_id in range(3):
        workshop.thread.want(sequence_id, "a", "text")
    workshop.end_one()
    workshop.thread.want(3, "a", "text")
    assert 4 * [("text", ())] == [taken(workshop, sequence_id) for sequence_id in range(4)]
    workshop.thread.want(4, "b", "text")
    assert taken(workshop, 4) is None
    workshop.end_one()
    assert ["text", "text"] == workshop.begun
    assert [("a", 1.0), ("b", 1.0)] == workshop.thread.take_times()
    assert [] == workshop.thread.take_times()


def test_what_has_begun_is_compiled_for_one_alone(workshop):
    """It has matched its tokens, nobody else gets it, and the shared one is compiled afresh."""
    workshop.thread.want(1, "a", "text")
    workshop.end_one()
    workshop.thread.want(2, "a", "text", [5, 6])
    workshop.end_one()
    workshop.thread.want(3, "a", "text")
    workshop.end_one()
    assert [("text", ()), ("text", (5, 6)), ("text", ())] == [taken(workshop, n) for n in (1, 2, 3)]
    assert 3 == len(workshop.begun)


@pytest.mark.parametrize(("text", "message"), [("bad", "It is bad"), ("panic", "cannot be compil")])
def test_what_cannot_be_compiled_is_told_to_all_who_want_it(workshop, text, message):
    """It is tried again when it is wanted again, and the thread goes on."""
    for sequence_id in (1, 2):
        workshop.thread.want(sequence_id, "a", text)
    workshop.end_one()
    for sequence_id in (1, 2):
        with pytest.raises(InvalidRequestError, match=message):
            workshop.thread.take(sequence_id)
    workshop.thread.want(3, "a", "good")
    workshop.end_one()
    assert ("good", ()) == taken(workshop, 3)
    assert 1 == workshop.thread.num_kept


def test_what_nobody_waits_for_any_more_is_not_begun(workshop):
    """Of a queue only what was wanted to the end is compiled."""
    for sequence_id in range(3):
        workshop.thread.want(sequence_id, "a", f"text {sequence_id}")
    workshop.wait_for_beginning()
    for sequence_id in (0, 1, 1, 77):
        workshop.thread.forget(sequence_id)
    workshop.let_all_go()
    workshop.wait_for_beginning()
    assert ["text 0", "text 2"] == workshop.begun


def test_a_grammar_that_takes_for_ever_holds_up_others_for_a_while(workshop):
    """It is refused, and another thread goes on with the others."""
    workshop.thread.want(1, "a", "endless")
    workshop.thread.want(2, "b", "small")
    workshop.wait_for_beginning()
    workshop.clock.advance(29)
    assert taken(workshop, 1) is None
    workshop.clock.advance(1)
    with pytest.raises(InvalidRequestError, match="longer than 30 s"):
        workshop.thread.take(1)
    workshop.wait_for_beginning()
    assert ["endless", "small"] == workshop.begun
    assert [("a", 30.0)] == workshop.thread.take_times()


def test_threads_that_are_lost_are_few(workshop):
    """After the last one no grammar is taken any more; one that comes back is used again."""
    for number in range(grammar_thread.MAX_LOST_THREADS):
        workshop.thread.want(number, "a", f"endless {number}")
        workshop.wait_for_beginning()
        workshop.thread.want(100 + number, "b", "waits")
        workshop.thread.want(200 + number, "a", "waits, too")
        workshop.thread.forget(200 + number)
        if number + 1 < grammar_thread.MAX_LOST_THREADS:  # the next thread finds nothing to do
            workshop.thread.forget(100 + number)
        workshop.clock.advance(30)
        with pytest.raises(InvalidRequestError, match="longer than"):
            workshop.thread.take(number)
    with pytest.raises(InvalidRequestError, match="no grammars now"):
        workshop.thread.take(100 + number)
    workshop.thread.want(300, "c", "new")
    with pytest.raises(InvalidRequestError, match="no grammars now"):
        workshop.thread.take(300)


def test_what_is_kept_is_bounded(workshop, monkeypatch):
    """Who has the most loses first; nobody's many grammars cost another its one."""
    monkeypatch.setattr(grammar_thread, "MAX_KEPT_CHARS", 100)
    workshop.let_all_go()
    workshop.thread.want(0, "modest", "small")
    workshop.end_one()
    for number in range(1, 40):
        workshop.thread.want(number, "greedy", f"{number:020}")
        workshop.end_one()
    assert 5 == workshop.thread.num_kept
    workshop.begun.clear()
    workshop.thread.want(100, "modest", "small")
    workshop.thread.want(101, "greedy", f"{39:020}")
    assert [] == workshop.begun
    assert ("small", ()) == taken(workshop, 100)
