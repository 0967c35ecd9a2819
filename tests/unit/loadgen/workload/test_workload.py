from __future__ import annotations

from itertools import islice, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.workload.distributions import Constant, Uniform
from stillhouse_loadgen.workload.workload import (
    Extent,
    SyntheticShape,
    SyntheticWorkload,
    TextScale,
    within,
)

ONE_TO_ONE = TextScale()
KEYS = KeyRing([LoadKey("a", "x")])


def conversations(count, *, seed=(0,), scale=ONE_TO_ONE, starts=None, **shape):
    workload = SyntheticWorkload(SyntheticShape(**shape), scale, KEYS, seed=seed)
    return list(islice(workload.conversations(starts or repeat(None)), count))


def test_same_seed_same_words():
    """A conversation depends on the seed and its number, and on nothing else."""
    assert conversations(3) == conversations(3)
    assert conversations(3, seed=(1,))[0] != conversations(3)[0]
    assert 3 == len({conversation.turns for conversation in conversations(3)})


def test_lengths_are_as_drawn():
    """A question has as many words as make its tokens, the template's own taken off."""
    scale = TextScale(tokens_per_word=2.0, overhead_tokens=20)
    turn = conversations(1, scale=scale, input_tokens=Constant(120), output_tokens=Constant(9))
    (question,) = turn[0].turns

    assert (50, 9) == (len(question.prompt.split()), question.max_tokens)


def test_no_length_is_below_one():
    """However short a question is to be, it has a word and asks for a token."""
    (question,) = conversations(1, input_tokens=Constant(0), output_tokens=Constant(0))[0].turns

    assert (1, 1) == (len(question.prompt.split()), question.max_tokens)


def test_prefixes_are_shared():
    """Half of the conversations begin with one of three texts, the others with none."""
    shape = {"num_prefixes": 3, "prefix_tokens": 40, "prefix_share": 0.5}
    systems = [conversation.system for conversation in conversations(2000, **shape)]
    shared = [system for system in systems if system is not None]

    assert 3 == len(set(shared))
    assert {40} == {len(system.split()) for system in shared}
    assert pytest.approx(1000, rel=0.1) == len(shared)


def test_prefixes_differ_from_run_to_run():
    """Another seed shares other texts, so that the first run's cache is of no use to the second."""
    shape = {"num_prefixes": 1, "prefix_tokens": 40}

    assert conversations(1, seed=(0, 0), **shape)[0].system != (
        conversations(1, seed=(0, 1), **shape)[0].system
    )


def test_only_later_turns_are_thought_about():
    """The first question comes at once, the others after a pause."""
    turns = conversations(1, turns=Constant(3), think_s=Constant(2.5))[0].turns

    assert [0, 2.5, 2.5] == [turn.pause_s for turn in turns]


@given(st.integers(1, 60), st.integers(1, 5))
def test_so_many_requests_and_no_more(num_requests, most_turns):
    """The last conversation is cut where the run ends."""
    shape = SyntheticShape(turns=Uniform(1, most_turns), input_tokens=Constant(1))
    workload = SyntheticWorkload(shape, TextScale(), KEYS, seed=(0,))
    offered = within(Extent(num_requests=num_requests), workload.conversations(repeat(None)))

    assert num_requests == sum(len(conversation.turns) for conversation in offered)


def test_nothing_begins_after_the_end():
    """What is due when the time is over is not offered."""
    starts = iter([0.0, 1.0, 2.0, 3.0])
    workload = SyntheticWorkload(SyntheticShape(), TextScale(), KEYS, seed=(0,))
    offered = within(Extent(duration_s=2.0), workload.conversations(starts))

    assert [0.0, 1.0] == [conversation.start_s for conversation in offered]


@pytest.mark.parametrize(
    "shape", [{"prefix_share": 1.5}, {"num_prefixes": -1}, {"prefix_tokens": 0}]
)
def test_shapes_that_cannot_be(shape):
    """The message names the option."""
    with pytest.raises(ArgumentError, match="--prefix"):
        SyntheticShape(**shape)
