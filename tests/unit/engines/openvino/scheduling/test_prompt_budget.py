"""How much of prompts a step takes along, from durations that are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.engines.openvino.scheduling.prompt_budget import (
    LONGEST_STEP_S,
    TILE_TOKENS,
    PromptBudget,
)
from stillhouse.engines.openvino.scheduling.step_times import StepTimes

BLOCK_SIZE = 32


def budget_after(*steps: tuple[int, float], target_pause_s: float = 0.2) -> PromptBudget:
    times = StepTimes()
    for num_tokens, duration_s in steps:
        times.observe(num_tokens, duration_s)
    return PromptBudget(times, target_pause_s=target_pause_s, block_size=BLOCK_SIZE)


def test_beside_decoding_a_step_ends_within_the_target():
    """Of 48 tokens that take 0.2 s, the decoding ones leave the rest to prompts."""
    budget = budget_after((4, 0.05), (48, 0.2), (64, 0.3))
    assert (44, 41) == (budget(4, 1000), budget(7, 1000))


def test_a_longer_pause_lets_more_of_a_prompt_through():
    """The target is what the operator says."""
    steps = ((1, 0.05), (50, 0.2), (60, 0.4))
    assert 59 == budget_after(*steps, target_pause_s=0.4)(1, 1000)


def test_where_nothing_decodes_a_step_takes_a_second():
    """Nobody's token waits, but a cancel or an arrival does."""
    budget = budget_after((32, 0.1), (256, LONGEST_STEP_S), (512, 2.1))
    assert 256 == budget(0, 1000)


def test_a_target_above_a_second_counts_alone_too():
    """Steps in which nothing decodes are never shorter than the others."""
    budget = budget_after((32, 0.1), (256, 1.0), (512, 2.0), target_pause_s=2.0)
    assert 512 == budget(0, 1000)


def test_a_prompt_advances_however_slow_the_machine_is():
    """Where the decoding alone takes longer than the target, a block of prompt goes along."""
    budget = budget_after((4, 0.5), (64, 3.0))
    assert BLOCK_SIZE == budget(4, 1000)


def test_before_any_step_a_block_is_taken():
    """Without knowledge it begins small."""
    assert BLOCK_SIZE == budget_after()(0, 1000)


def test_the_budget_learns_while_steps_become_slower():
    """What a step may hold shrinks with what steps have taken."""
    times = StepTimes()
    budget = PromptBudget(times, target_pause_s=0.2, block_size=BLOCK_SIZE)
    times.observe(4, 0.1)
    times.observe(64, 0.2)
    before = budget(4, 1000)
    for _ in range(30):
        times.observe(64, 0.25)
    assert (60, 40) == (before, budget(4, 1000))


def test_the_budget_grows_again_when_the_machine_is_free_again():
    """A few steps in a busy moment do not make all later prompts slow."""
    times = StepTimes()
    budget = PromptBudget(times, target_pause_s=0.2, block_size=BLOCK_SIZE)
    chosen = []
    for number in range(1200):
        num_tokens = 4 + budget(4, 1020) if number % 3 else 4
        chosen.append(num_tokens)
        slowness = 4 if 600 < number < 610 else 1
        times.observe(num_tokens, slowness * (0.03 + 0.0006 * num_tokens))
    assert 256 == chosen[599]
    assert min(chosen[610:620]) <= 64
    assert chosen[-1] >= 192


@pytest.mark.parametrize(
    ("duration_s", "expected"), [(0.2, 64), (0.21, 128), (0.3, 128), (0.31, 192)]
)
def test_above_a_tile_there_are_whole_tiles(duration_s, expected):
    """A tile that is begun takes as long as a whole one."""
    budget = budget_after((1, 0.01), (640, 1.0), target_pause_s=duration_s)
    assert expected - 3 == budget(3, 1000)
    assert 0 == expected % TILE_TOKENS


@given(
    steps=st.lists(st.tuples(st.integers(1, 1000), st.floats(1e-3, 10.0)), max_size=20),
    num_decoded=st.integers(0, 64),
    most=st.integers(1, 1000),
)
def test_it_is_always_something_and_never_too_much(steps, num_decoded, most):
    """Prompts advance with every step, a block or all there is room for."""
    assert min(most, BLOCK_SIZE) <= budget_after(*steps)(num_decoded, most) <= most
