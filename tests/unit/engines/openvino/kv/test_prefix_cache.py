"""Prompts that begin alike, over blocks that remember whose history they hold."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.kv.blocks import KVBlocks
from stillhouse.engines.openvino.kv.disk_tier import HEADER_BYTES, DiskTier
from stillhouse.engines.openvino.kv.prefix_cache import MAX_RESTORED_BYTES, PrefixCache
from stillhouse.engines.openvino.scheduling.prompt_budget import unbounded
from stillhouse.engines.openvino.scheduling.scheduler import BatchLimits, Scheduler, Slice
from stillhouse.engines.openvino.scheduling.sequence import Sequence, SequenceState
from tests.effort import examples
from tests.unit.engines.openvino.block_memory import BLOCK_SIZE, BlockMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_BYTES = HEADER_BYTES + BlockMemory.block_bytes
MAX_STEPS = 5000
TIMEOUT_S = 10.0


class Bench:
    """A scheduler and a double of the graph, which writes down the history of each token."""

    def __init__(
        self,
        num_blocks: int = 64,
        *,
        max_sequences: int = 8,
        chunk: int | None = None,
        disk_dir: Path | None = None,
        max_files: int = 64,
    ) -> None:
        self.memory = BlockMemory(num_blocks)
        self.blocks = KVBlocks(num_blocks)
        self.disk_tier: DiskTier | None = None
        if disk_dir:
            self.disk_tier = DiskTier(
                disk_dir, self.memory, identity=b"bench", max_bytes=max_files * FILE_BYTES
            )
        self.scheduler = Scheduler(
            self.blocks,
            PrefixCache(self.blocks, self.memory, block_size=BLOCK_SIZE, disk_tier=self.disk_tier),
            BatchLimits(max_sequences, 40, unbounded, chunk),
            block_size=BLOCK_SIZE,
        )
        self.sequences: list[Sequence] = []
        self.num_computed = 0

    def add(self, prompt: list[int], max_tokens: int = 1, **fields) -> Sequence:
        request = GenerateRequest("r", prompt, max_tokens, **fields)
        sequence = Sequence(len(self.sequences), request, block_size=BLOCK_SIZE, generator=None)
        self.sequences.append(sequence)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[Slice]:
        batch = self.scheduler.schedule()
        for part in batch:
            self.num_computed += part.num_tokens
            for position in range(part.begin, part.begin + part.num_tokens):
                self.memory.slots[place(part, position)] = history(part, position)
        for part in batch:
            for position in range(part.begin + part.num_tokens):
                assert history(part, position) == self.memory.slots[place(part, position)]
            if part.is_sampled:
                part.sequence.append(1000 + part.sequence.num_tokens % 3)
            self.scheduler.advance(part)
            if part.sequence.finish is not None:
                self.scheduler.remove(part.sequence)
        return batch

    def run(self) -> None:
        """Step until everything is finished."""
        for _ in range(MAX_STEPS):
            if not self.scheduler.num_running and not self.scheduler.num_waiting:
                return
            assert self.step() or self.scheduler.is_restoring, "A step without progress is a spin."
        raise AssertionError("It does not end.")

    def finish(self, *args, **fields) -> Sequence:
        sequence = self.add(*args, **fields)
        self.run()
        return sequence

    def close(self) -> None:
        """End as a sound process does: what was to be kept is on the disk."""
        if self.disk_tier is not None:
            self.disk_tier.close(TIMEOUT_S)


@contextmanager
def bench_on(directory: Path, **options) -> Iterator[Bench]:
    bench = Bench(disk_dir=directory, **options)
    try:
        yield bench
    finally:
        bench.close()


def place(part: Slice, position: int) -> tuple[int, int]:
    return part.sequence.block_ids[position // BLOCK_SIZE], position % BLOCK_SIZE


def history(part: Slice, position: int) -> int:
    """Return a number that only the same tokens of the same owner have."""
    sequence = part.sequence
    is_public = position // BLOCK_SIZE < sequence.num_public_blocks
    owner = None if is_public else sequence.request.cache_salt
    return number_of(owner, sequence.token_ids[: position + 1].tobytes())


@lru_cache(100_000)
def number_of(owner: str | None, tokens: bytes) -> int:
    digest = hashlib.blake2b(repr(owner).encode() + tokens, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


PROMPT = list(range(5 * BLOCK_SIZE + 3))
NUM_WHOLE = 5 * BLOCK_SIZE


# One prompt, several answers.


def test_equal_prompts_are_computed_once_but_for_their_last_token():
    """The first computes all of it, the others one token each, beside its next one."""
    bench = Bench()
    sequences = [bench.add(PROMPT, 3) for _ in range(4)]
    assert [(0, len(PROMPT))] == [(s.sequence.sequence_id, s.num_tokens) for s in bench.step()]
    assert [(n, 1) for n in range(4)] == [
        (part.sequence.sequence_id, part.num_tokens) for part in bench.step()
    ]
    assert [0, *3 * [NUM_WHOLE]] == [sequence.num_cached for sequence in sequences]
    assert 4 == len({sequence.block_ids[-1] for sequence in sequences})
    bench.run()


def test_a_prompt_shorter_than_a_block_is_computed_once_too():
    """There is nothing to share, but something to copy."""
    bench = Bench()
    sequences = [bench.add([1, 2, 3], 1) for _ in range(4)]
    bench.run()
    assert 3 + 3 == bench.num_computed
    assert 4 * [0] == [sequence.num_cached for sequence in sequences]


def test_a_prompt_that_ends_with_a_block_is_computed_once_too():
    """All but the last token of its last block is copied; that block was not shared before."""
    bench = Bench()
    for _ in range(3):
        bench.add(list(range(2 * BLOCK_SIZE)), 4)
    bench.run()
    assert 2 * BLOCK_SIZE + 3 + 2 * (1 + 3) == bench.num_computed


def test_the_end_of_a_prompt_is_nobody_elses():
    """Another salt, another end or another beginning has nothing to copy."""
    bench = Bench()
    bench.finish(PROMPT)
    for prompt, salt in [(PROMPT, "other"), ([9, *PROMPT[1:]], ""), ([*PROMPT[:-2], 9, 9], "")]:
        before = bench.num_computed
        sequence = bench.finish(prompt, cache_salt=salt)
        assert len(prompt) - (sequence.num_cached or 0) == bench.num_computed - before


def test_who_waits_for_the_end_of_a_prompt_goes_on_when_its_maker_is_gone():
    """The next one computes what the cancelled one has not."""
    bench = Bench(chunk=2)
    first, second = bench.add([1, 2, 3]), bench.add([1, 2, 3])
    assert [first] == [part.sequence for part in bench.step()]
    bench.scheduler.remove(first)
    assert [second] == [part.sequence for part in bench.step()]
    bench.run()


def test_the_only_free_block_may_be_the_one_that_is_copied():
    """It is handed out with its content, which then belongs to the next."""
    bench = Bench(1)
    for _ in range(2):
        bench.add([1, 2, 3])
    bench.run()
    assert 3 + 1 == bench.num_computed


@pytest.mark.parametrize("num_tokens", [1, 4])
def test_who_asks_again_is_computed_as_the_first_time(num_tokens):
    """What was generated stands in the same block, and would tell in a copy that is quantised."""
    bench = Bench()
    bench.finish([1, 2, 3], num_tokens)
    num_computed = bench.num_computed
    bench.finish([1, 2, 3], num_tokens)
    assert 2 * num_computed == bench.num_computed
    bench.add([7, 8], 9)
    bench.step()
    bench.finish([1, 2, 3], num_tokens)
    assert 3 * num_computed + 2 + 8 == bench.num_computed


def test_the_end_of_a_prompt_is_copied_at_once_or_never():
    """Who comes while the first one answers already computes all of it."""
    bench = Bench()
    bench.add([1, 2, 3], 4)
    bench.step()
    bench.step()
    bench.finish([1, 2, 3])
    assert 3 + 3 + 3 == bench.num_computed


# What outlives a restart.


def test_a_prefix_that_two_began_with_outlives_a_restart(tmp_path):
    """The next process finds it on disk, computes the rest and counts it as cached."""
    with bench_on(tmp_path) as bench:
        bench.finish(PROMPT)
        bench.finish(PROMPT)
    with bench_on(tmp_path) as bench:
        sequence = bench.finish(PROMPT)
        again = bench.finish(PROMPT)
    assert (NUM_WHOLE, NUM_WHOLE) == (sequence.num_cached, again.num_cached)
    assert 3 + 3 == bench.num_computed


def test_a_prefix_that_one_began_with_is_not_kept(tmp_path):
    """A prompt that nobody has sent twice leaves nothing on the disk."""
    with bench_on(tmp_path) as bench:
        bench.finish(PROMPT, 9)
        bench.finish([9, *PROMPT])
    assert [] == [*tmp_path.iterdir()]


def test_a_public_prefix_is_kept_from_the_first_time_on(tmp_path):
    """Its whole blocks are, and no private ones; any salt finds them."""
    with bench_on(tmp_path) as bench:
        bench.finish(PROMPT, cache_salt="a", num_public_tokens=3 * BLOCK_SIZE + 1)
    assert 3 == len([*tmp_path.iterdir()])
    with bench_on(tmp_path) as bench:
        sequence = bench.finish(PROMPT, cache_salt="b", num_public_tokens=3 * BLOCK_SIZE + 1)
    assert 3 * BLOCK_SIZE == sequence.num_cached


@pytest.mark.parametrize("num_public_tokens", [0, NUM_WHOLE])
def test_of_a_prefix_longer_than_the_disk_the_beginning_is_kept(num_public_tokens, tmp_path):
    """The end, written last, would be of no use without it; and what is kept is left alone."""
    with bench_on(tmp_path, max_files=3) as bench:
        bench.finish(PROMPT, num_public_tokens=num_public_tokens)
        bench.finish(PROMPT, num_public_tokens=num_public_tokens)
    kept = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    with bench_on(tmp_path, max_files=3) as bench:
        sequence = bench.finish(PROMPT, num_public_tokens=num_public_tokens)
        bench.finish(PROMPT, num_public_tokens=num_public_tokens)
    assert 3 * BLOCK_SIZE == sequence.num_cached
    assert kept == {path.name: path.stat().st_ino for path in tmp_path.iterdir()}


def test_another_salt_finds_nothing_of_a_private_prefix(tmp_path):
    """Neither with equal tokens nor by calling them public."""
    with bench_on(tmp_path) as bench:
        bench.finish(PROMPT, cache_salt="a")
        bench.finish(PROMPT, cache_salt="a")
    with bench_on(tmp_path) as bench:
        others = [
            bench.finish(PROMPT, cache_salt="b"),
            bench.finish(PROMPT, cache_salt=""),
            bench.finish(PROMPT, cache_salt="c", num_public_tokens=len(PROMPT)),
        ]
    assert [0, 0, 0] == [sequence.num_cached for sequence in others]


@pytest.mark.parametrize("num_public_tokens", [0, 3 * BLOCK_SIZE])
def test_other_cache_keys_find_nothing_on_disk_and_the_same_ones_do(tmp_path, num_public_tokens):
    """A file's name holds the adapter and the media: others' blocks are never read for them."""
    prompt = list(range(3 * BLOCK_SIZE))
    fields = {"num_public_tokens": num_public_tokens}
    with bench_on(tmp_path) as before:
        before.finish(prompt, cache_keys=("adapter a",), **fields)
        before.finish(prompt, cache_keys=("adapter a",), **fields)
    with bench_on(tmp_path) as after:
        plain = after.finish(prompt, **fields)
        other = after.finish(prompt, cache_keys=("adapter b",), **fields)
        same = after.finish(prompt, cache_keys=("adapter a",), **fields)
    assert (0, 0) == (plain.num_cached, other.num_cached)
    assert 2 * BLOCK_SIZE == same.num_cached


def test_equal_ends_of_prompts_are_not_copied_under_other_cache_keys():
    """A partial block is found by its keys too, so two adapters compute a short prompt each."""
    bench = Bench()
    for keys in ((), ("adapter a",), ("adapter a",)):
        bench.add([7] * (BLOCK_SIZE - 1), cache_keys=keys)
    bench.run()
    assert 2 * (BLOCK_SIZE - 1) + 1 == bench.num_computed


def test_what_memory_has_lost_comes_back_from_disk(tmp_path):
    """A prefix that gave way to others is read, not computed."""
    with bench_on(tmp_path, num_blocks=7) as bench:
        bench.finish(PROMPT)
        bench.finish(PROMPT)
        bench.close()
        bench.finish([50 + token for token in PROMPT])
        before = bench.num_computed
        assert NUM_WHOLE == bench.finish(PROMPT).num_cached
    assert 3 == bench.num_computed - before


def test_what_a_preempted_sequence_reads_of_its_own_is_not_counted_as_cached(tmp_path):
    """It was computed once before, and that is what it is charged for."""
    public = {"num_public_tokens": len(PROMPT)}
    with bench_on(tmp_path, num_blocks=6) as bench:
        slow = bench.add(PROMPT, 2, priority=1, **public)
        bench.step()
        bench.close()
        bench.finish([50 + token for token in PROMPT])
    assert SequenceState.FINISHED is slow.state
    assert 0 == slow.num_cached
    assert bench.num_computed < 2 * len(PROMPT) + NUM_WHOLE


def test_a_step_brings_back_so_much_and_others_go_on_meanwhile(tmp_path, monkeypatch):
    """What is being read is in no batch; what decodes is in every one."""
    with bench_on(tmp_path) as bench:
        bench.finish(PROMPT)
        bench.finish(PROMPT)
    monkeypatch.setattr(
        "stillhouse.engines.openvino.kv.prefix_cache.MAX_RESTORED_BYTES",
        2 * BlockMemory.block_bytes,
    )
    with bench_on(tmp_path) as bench:
        other = bench.add([7], 9)
        bench.step()
        reading = bench.add(PROMPT)
        waiting = bench.add(PROMPT)
        assert [other] == [part.sequence for part in bench.step()]
        assert 2 * BLOCK_SIZE == reading.num_computed
        assert [other] == [part.sequence for part in bench.step()]
        assert [other, reading] == [part.sequence for part in bench.step()]
        bench.run()
    assert (NUM_WHOLE, NUM_WHOLE) == (reading.num_cached, waiting.num_cached)
    assert MAX_RESTORED_BYTES > 2 * BlockMemory.block_bytes


def test_a_file_that_turns_out_bad_is_computed_instead(tmp_path):
    """Only what was really found is counted as cached, and the block is kept anew."""
    with bench_on(tmp_path) as bench:
        first = bench.finish(PROMPT)
        bench.finish(PROMPT)
    file = tmp_path / f"{first.prefix_hash(2).hex()}.kv"
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with bench_on(tmp_path) as bench:
        sequence = bench.finish(PROMPT)
        assert 2 * BLOCK_SIZE == sequence.num_cached
        assert len(PROMPT) - 2 * BLOCK_SIZE == bench.num_computed
        bench.finish(PROMPT)
    assert sound == file.read_bytes()


# All of it at once.


@dataclass(frozen=True)
class Arrival:
    at_step: int
    prefix: int
    tail: int
    num_own: int
    max_tokens: int
    num_answers: int
    salt: str
    num_public: int
    priority: int
    cancel_at_step: int | None


arrivals = st.builds(
    Arrival,
    at_step=st.integers(0, 12),
    prefix=st.integers(0, 3),
    tail=st.integers(0, 1),
    num_own=st.integers(1, 9),
    max_tokens=st.integers(1, 9),
    num_answers=st.integers(1, 3),
    salt=st.sampled_from(["", "a"]),
    num_public=st.integers(0, 10),
    priority=st.integers(0, 2),
    cancel_at_step=st.none() | st.integers(0, 30),
)


@settings(max_examples=examples(250), deadline=None, derandomize=True)
@given(
    plans=st.lists(st.lists(arrivals, min_size=1, max_size=6), min_size=1, max_size=3),
    num_blocks=st.integers(8, 20),
    max_sequences=st.integers(1, 6),
    chunk=st.none() | st.integers(1, 20),
    max_files=st.integers(1, 12),
)
def test_whatever_is_shared_copied_or_read_is_a_sequences_own_history(
    plans, num_blocks, max_sequences, chunk, max_files
):
    """Over restarts, with little memory and little disk, no sequence sees what is not its own."""
    with TemporaryDirectory() as directory:
        for plan in plans:
            with bench_on(
                Path(directory),
                num_blocks=num_blocks,
                max_sequences=max_sequences,
                chunk=chunk,
                max_files=max_files,
            ) as bench:
                serve(bench, plan)
            assert all(s.state is SequenceState.FINISHED for s in bench.sequences)
            assert bench.blocks.num_blocks == bench.blocks.num_free
            assert len([*Path(directory).iterdir()]) <= max_files


def serve(bench: Bench, plan: list[Arrival]) -> None:
    cancels: dict[int, list[Sequence]] = {}
    for step in range(31):
        for arrival in plan:
            if arrival.at_step != step:
                continue
            prompt = [7] * (BLOCK_SIZE * arrival.prefix) + [arrival.tail] * arrival.num_own
            for _ in range(arrival.num_answers):
                sequence = bench.add(
                    prompt,
                    arrival.max_tokens,
                    cache_salt=arrival.salt,
                    priority=arrival.priority,
                    num_public_tokens=min(arrival.num_public, len(prompt)),
                )
                if arrival.cancel_at_step is not None:
                    cancels.setdefault(max(step, arrival.cancel_at_step), []).append(sequence)
        for sequence in cancels.get(step, []):
            bench.scheduler.remove(sequence)
        bench.step()
    bench.run()
