"""The scheduler over a KV cache that remembers what was written to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.kv.blocks import KVBlocks
from stillhouse.engines.openvino.kv.prefix_cache import PrefixCache
from stillhouse.engines.openvino.scheduling.prompt_budget import unbounded
from stillhouse.engines.openvino.scheduling.scheduler import BatchLimits, Scheduler, Slice
from stillhouse.engines.openvino.scheduling.sequence import Sequence, SequenceState
from stillhouse.engines.openvino.scheduling.step_times import StepTimes
from stillhouse.engines.openvino.speculation.drafts import Draft
from stillhouse.engines.openvino.speculation.speculation import Speculation
from tests.effort import examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK_SIZE = 4
MAX_STEPS = 5000


Memory = dict[tuple[int, int], tuple[str, int]]


@dataclass(frozen=True)
class Parts:
    """The memory as far as prefixes are copied in it."""

    memory: Memory
    block_bytes: int = 1

    def copy_block(self, source: int, target: int) -> None:
        for slot in range(BLOCK_SIZE):
            if (source, slot) in self.memory:
                self.memory[target, slot] = self.memory[source, slot]

    def read_block(self, block: int) -> NDArray[np.uint8]:
        raise NotImplementedError(block)

    def write_block(self, block: int, content: NDArray[np.uint8]) -> None:
        raise NotImplementedError(block, content)


def next_token(sequence: Sequence) -> int:
    """Return what every sequence says at this length."""
    return 1000 + sequence.num_tokens % 3


class ScriptedSpeculation(Speculation):
    """Draft tokens of any length, the first of which, up to so many, are right."""

    def __init__(self, most: int, most_right: int = 11) -> None:
        super().__init__(StepTimes(), max_draft_tokens=most)
        self._most = most
        self._most_right = most_right
        self._random = Random(0)

    def draft(self, sequences: list[Sequence], *, num_tokens: int, most: int) -> dict[int, Draft]:
        del num_tokens
        drafts = {}
        for sequence in sequences:
            size = min(self._random.randint(0, self._most), sequence.num_tokens_left - 1, most)
            num_right = self._random.randint(0, self._most_right)
            draft_ids = [1000 + (sequence.num_tokens + place) % 3 for place in range(num_right)]
            if size > 0:
                most -= size
                drafts[sequence.sequence_id] = Draft((*draft_ids, *[-1] * size)[:size], 2)
        return drafts


class Bench:
    """A scheduler and a double of the graph: it writes tokens where keys and values would go."""

    def __init__(
        self,
        num_blocks: int,
        *,
        max_sequences: int = 8,
        max_batch_tokens: int = 64,
        prompt_budget: Callable[[int, int], int] = unbounded,
        prefill_chunk_tokens: int | None = 64,
        speculation: Speculation | None = None,
    ) -> None:
        self.blocks = KVBlocks(num_blocks)
        self.memory: Memory = {}
        self.max_sequences = max_sequences
        self.max_batch_tokens = max_batch_tokens
        self.scheduler = Scheduler(
            self.blocks,
            PrefixCache(self.blocks, Parts(self.memory), block_size=BLOCK_SIZE),
            BatchLimits(max_sequences, max_batch_tokens, prompt_budget, prefill_chunk_tokens),
            block_size=BLOCK_SIZE,
            speculation=speculation,
        )
        self.sequences: list[Sequence] = []

    def add(
        self, prompt: list[int], max_tokens: int = 4, *, salt: str = "", priority: int = 0
    ) -> Sequence:
        request = GenerateRequest(
            "r", prompt, max_tokens, cache_salt=salt, priority=priority, stop_token_ids=()
        )
        sequence = Sequence(len(self.sequences), request, block_size=BLOCK_SIZE, generator=None)
        self.sequences.append(sequence)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[Slice]:
        batch = self.scheduler.schedule()
        self.check(batch)
        for part in batch:
            self.write(part)
        for part in batch:
            self.check_memory(part)
            num_drawn = self.draw(part) if part.is_sampled else 1
            self.scheduler.advance(part, num_accepted=num_drawn - 1)
            assert not part.is_sampled or part.sequence.num_uncomputed == 1
            if part.sequence.finish is not None:
                self.scheduler.remove(part.sequence)
        return batch

    def draw(self, part: Slice) -> int:
        """Append what the step gives, and return how many tokens it is."""
        sequence, before = part.sequence, part.sequence.num_tokens
        for draft_id in (*part.draft.token_ids, None):
            token_id = next_token(sequence)
            sequence.append(token_id)
            if sequence.finish is not None or token_id != draft_id:
                break
        return sequence.num_tokens - before

    def run(self) -> None:
        """Step until everything is finished."""
        for _ in range(MAX_STEPS):
            if not self.scheduler.num_running and not self.scheduler.num_waiting:
                return
            assert self.step(), "A step without progress is a spin."
        raise AssertionError("It does not end.")

    def check(self, batch: list[Slice]) -> None:
        assert len({id(part.sequence) for part in batch}) == len(batch)
        assert len(batch) <= self.max_sequences
        assert sum(part.num_rows for part in batch) <= self.max_batch_tokens
        running = [s for s in self.sequences if s.state is SequenceState.RUNNING]
        decoding = {s.sequence_id for s in running if s.num_uncomputed == 1}
        assert decoding <= {part.sequence.sequence_id for part in batch}

    def write(self, part: Slice) -> None:
        sequence = part.sequence
        token_ids = [*sequence.token_ids, *part.draft.token_ids]
        for position in range(part.begin, part.begin + part.num_rows):
            block, slot = sequence.block_ids[position // BLOCK_SIZE], position % BLOCK_SIZE
            self.memory[block, slot] = (sequence.request.cache_salt, token_ids[position])

    def check_memory(self, part: Slice) -> None:
        """Everything that the step attends to is the sequence's own history."""
        sequence = part.sequence
        for position in range(sequence.num_computed + part.num_tokens):
            block, slot = sequence.block_ids[position // BLOCK_SIZE], position % BLOCK_SIZE
            expected = (sequence.request.cache_salt, sequence.token_ids[position])
            assert expected == self.memory[block, slot]


@dataclass(frozen=True)
class Arrival:
    at_step: int
    prefix: int
    tail: int
    num_own: int
    max_tokens: int
    salt: str
    priority: int
    cancel_at_step: int | None


arrivals = st.builds(
    Arrival,
    at_step=st.integers(0, 12),
    prefix=st.integers(0, 3),
    tail=st.integers(0, 2),
    num_own=st.integers(1, 14),
    max_tokens=st.integers(1, 12),
    salt=st.sampled_from(["", "a"]),
    priority=st.integers(0, 2),
    cancel_at_step=st.none() | st.integers(0, 30),
)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(
    plan=st.lists(arrivals, min_size=1, max_size=10),
    num_blocks=st.integers(10, 24),
    max_sequences=st.integers(1, 6),
    num_spare_tokens=st.integers(1, 20),
    chunks=st.integers(1, 20) | st.lists(st.integers(1, 30), min_size=1),
    most_draft_tokens=st.integers(0, 11),
)
def test_whatever_arrives_is_served_from_its_own_history(
    *, plan, num_blocks, max_sequences, num_spare_tokens, chunks, most_draft_tokens
):
    """Prefixes, priorities, preemption, cancels and draft tokens never mix up two sequences."""
    is_fixed = isinstance(chunks, int)
    left = cycle([chunks] if is_fixed else chunks)
    bench = Bench(
        num_blocks,
        max_sequences=max_sequences,
        max_batch_tokens=max_sequences + num_spare_tokens,
        prompt_budget=unbounded if is_fixed else lambda _, most: min(most, next(left)),
        prefill_chunk_tokens=chunks if is_fixed else None,
        speculation=ScriptedSpeculation(most_draft_tokens),
    )
    cancels = {}
    for step in range(31):
        for arrival in plan:
            if arrival.at_step == step:
                prompt = [7] * (BLOCK_SIZE * arrival.prefix) + [arrival.tail] * arrival.num_own
                sequence = bench.add(
                    prompt, arrival.max_tokens, salt=arrival.salt, priority=arrival.priority
                )
                if arrival.cancel_at_step is not None:
                    cancels.setdefault(max(step, arrival.cancel_at_step), []).append(sequence)
        for sequence in cancels.get(step, []):
            bench.scheduler.remove(sequence)
        bench.step()
    bench.run()
    assert all(s.state is SequenceState.FINISHED for s in bench.sequences)
    assert bench.blocks.num_blocks == bench.blocks.num_free


def test_a_decode_gets_its_token_beside_any_prompt():
    """A long prompt takes what the decodes leave of a step, not the other way round."""
    bench = Bench(64, max_batch_tokens=9, prefill_chunk_tokens=100)
    decoding = bench.add([1, 2, 3], 20)
    bench.step()
    bench.add(list(range(60)), priority=-1)
    sizes = [{part.sequence.sequence_id: part.num_tokens for part in bench.step()}]
    assert [{0: 1, 1: 8}] == sizes
    assert 1 == decoding.num_uncomputed


def test_an_important_prompt_is_computed_before_others():
    """Of two prompts in one step the more important has the first claim on its tokens."""
    bench = Bench(64, max_batch_tokens=10)
    bench.add(list(range(30)), priority=1)
    urgent = bench.add(list(range(100, 108)), priority=0)
    batch = bench.step()
    assert [(urgent, 8, True), (bench.sequences[0], 2, False)] == [
        (part.sequence, part.num_tokens, part.is_sampled) for part in batch
    ]


def test_a_step_holds_as_much_of_prompts_as_the_budget_says():
    """The budget is told of the decoding tokens and the room, and binds all prompts together."""
    told: list[tuple[int, int]] = []

    def budget(num_decoded: int, most: int) -> int:
        told.append((num_decoded, most))
        return 5

    bench = Bench(64, max_batch_tokens=20, prompt_budget=budget, prefill_chunk_tokens=None)
    bench.add([1], 20)
    bench.step()
    bench.add(list(range(30)))
    bench.add(list(range(100, 130)))
    assert [(0, 1), (1, 5)] == [
        (part.sequence.sequence_id, part.num_tokens) for part in bench.step()
    ]
    assert [(1, 19)] == told


def test_a_short_prompt_goes_along_with_a_long_one():
    """As much as half of a step goes to prompts that end with it; no more, however many come."""
    bench = Bench(64, max_batch_tokens=20, prefill_chunk_tokens=None)
    bench.add(list(range(60)))
    for number in range(3):
        bench.add([100 + number] * 5)
    sizes = [(part.sequence.sequence_id, part.num_tokens) for part in bench.step()]
    assert [(0, 10), (1, 5), (2, 5)] == sizes


def test_a_short_prompt_does_not_go_along_with_a_more_important_one():
    """What is urgent has the whole step, except for what decodes."""
    bench = Bench(64, max_batch_tokens=20, prefill_chunk_tokens=None)
    bench.add([1] * 5, priority=1)
    bench.add(list(range(60)), priority=0)
    assert [(1, 20)] == [(part.sequence.sequence_id, part.num_tokens) for part in bench.step()]


def test_an_important_arrival_takes_the_place_of_the_less_important():
    """Who makes room comes back later to its own blocks, which are not counted as cached."""
    bench = Bench(64, max_sequences=1)
    slow = bench.add(list(range(2 * BLOCK_SIZE + 1)), 4, priority=1)
    bench.step()
    urgent = bench.add([4, 5, 6], 1, priority=0)
    assert [urgent] == [part.sequence for part in bench.step()]
    assert SequenceState.WAITING is slow.state
    (part,) = bench.step()
    assert (slow, 2 * BLOCK_SIZE, 2) == (part.sequence, part.begin, part.num_tokens)
    assert 0 == slow.num_cached


def test_the_last_token_of_a_prompt_is_always_computed():
    """A prompt that is cached as a whole still needs its last token's logits."""
    bench = Bench(64)
    prompt = list(range(2 * BLOCK_SIZE))
    bench.add(prompt, 1)
    bench.step()
    again = bench.add(prompt, 1)
    (part,) = bench.step()
    assert (BLOCK_SIZE, BLOCK_SIZE, True) == (part.begin, part.num_tokens, part.is_sampled)
    assert BLOCK_SIZE == again.num_cached


def test_equals_do_not_push_each_other_out():
    """A later arrival of the same priority waits for room, however small it is."""
    bench = Bench(4)
    first = bench.add(list(range(12)), 4)
    bench.step()
    second = bench.add([1], 1)
    bench.step()
    assert (SequenceState.RUNNING, SequenceState.WAITING) == (first.state, second.state)
    bench.run()


def test_a_prompt_that_does_not_fit_yet_waits_and_holds_back_the_rest():
    """Small requests do not overtake a large one forever."""
    bench = Bench(8)
    bench.add(list(range(16)), 8)
    bench.step()
    large, small = bench.add(list(range(50, 74)), 1), bench.add([1], 1)
    bench.step()
    assert (SequenceState.WAITING, SequenceState.WAITING) == (large.state, small.state)
    bench.run()


def test_the_newest_is_preempted_and_finds_its_blocks_again():
    """When decoding runs out of blocks the newest sequence waits; its prefix is still cached."""
    bench = Bench(6)
    old, new = bench.add(list(range(8)), 16), bench.add(list(range(50, 58)), 8)
    while new.state is not SequenceState.WAITING or not new.num_tokens > 8:
        bench.step()
    assert SequenceState.RUNNING is old.state
    bench.run()
    assert (24, 16) == (old.num_tokens, new.num_tokens)
    assert (0, 0) == (old.num_cached, new.num_cached)


def test_a_second_on_an_unseen_prefix_waits_for_the_first():
    """While a prefix is being computed nobody else computes it; then it is shared."""
    bench = Bench(64, prefill_chunk_tokens=BLOCK_SIZE)
    shared = list(range(3 * BLOCK_SIZE))
    first, second = bench.add([*shared, 1]), bench.add([*shared, 2])
    for _ in range(3):
        assert [first] == [part.sequence for part in bench.step()]
    bench.step()
    assert (0, 3 * BLOCK_SIZE) == (first.num_cached, second.num_cached)
    assert first.block_ids[:3] == second.block_ids[:3]


def test_who_waits_for_a_prefix_does_not_hold_back_others():
    """A request behind one that waits for a prefix goes ahead."""
    bench = Bench(64, prefill_chunk_tokens=BLOCK_SIZE)
    shared = list(range(3 * BLOCK_SIZE))
    first, _, third = bench.add([*shared, 1]), bench.add([*shared, 2]), bench.add([9])
    assert [first, third] == [part.sequence for part in bench.step()]


def test_a_prefix_whose_maker_is_gone_is_computed_by_who_waits():
    """Who waited for a cancelled request keeps what it finished and computes the rest."""
    bench = Bench(64, prefill_chunk_tokens=BLOCK_SIZE)
    shared = list(range(3 * BLOCK_SIZE))
    first, second = bench.add([*shared, 1]), bench.add([*shared, 2])
    bench.step()
    bench.scheduler.remove(first)
    assert [second] == [part.sequence for part in bench.step()]
    assert BLOCK_SIZE == second.num_cached
    bench.run()


def test_the_important_do_not_wait_for_the_prefix_of_the_unimportant():
    """A prefix that only a less important request computes is computed twice."""
    bench = Bench(64, prefill_chunk_tokens=BLOCK_SIZE)
    shared = list(range(3 * BLOCK_SIZE))
    slow = bench.add([*shared, 1], priority=1)
    bench.step()
    urgent = bench.add([*shared, 2], priority=0)
    assert [urgent, slow] == [part.sequence for part in bench.step()]
    bench.run()


def test_four_answers_compute_their_prompt_once():
    """Of four sequences of one prompt, three compute its last token alone."""
    bench = Bench(64, prefill_chunk_tokens=BLOCK_SIZE)
    prompt = list(range(4 * BLOCK_SIZE + 2))
    sequences = [bench.add(prompt, 1) for _ in range(4)]
    num_computed = 0
    while any(sequence.finish is None for sequence in sequences):
        num_computed += sum(part.num_tokens for part in bench.step())
    assert len(prompt) + 3 == num_computed
    assert [0, *3 * [4 * BLOCK_SIZE]] == [sequence.num_cached for sequence in sequences]


def test_draft_tokens_take_no_block_that_another_needs():
    """Beside draft tokens that always fail, nobody is preempted who would not be without them."""
    bench = Bench(7, speculation=ScriptedSpeculation(11, most_right=0))
    sequences = [bench.add([1] * 5, 20), bench.add([2] * 5, 7, salt="other")]
    bench.run()
    assert not any(sequence.was_preempted for sequence in sequences)


def test_draft_tokens_use_blocks_for_a_step_only():
    """A block that was taken for draft tokens that failed is free again when the step is done."""
    bench = Bench(8, speculation=ScriptedSpeculation(0))
    sequence = bench.add([1] * 6, 9)
    bench.step()
    (part,) = bench.scheduler.schedule()
    speculated = bench.scheduler._with_draft(part, Draft((-1,) * 6, 2))
    assert (7, 4) == (speculated.num_rows, len(sequence.block_ids))
    sequence.append(1)
    bench.scheduler.advance(speculated)
    assert 2 == len(sequence.block_ids)


def test_draft_tokens_are_cut_to_the_blocks_that_are_free():
    """Where no further block is free, as many are computed as the sequence has places for."""
    bench = Bench(2, speculation=ScriptedSpeculation(0))
    sequence = bench.add([1] * 5, 3)
    bench.step()
    (part,) = bench.scheduler.schedule()
    assert 2 == len(bench.scheduler._with_draft(part, Draft((-1,) * 6, 2)).draft.token_ids)
    assert 2 == len(sequence.block_ids)
