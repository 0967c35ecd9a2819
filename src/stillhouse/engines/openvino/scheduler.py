"""
Which tokens of which sequences the next step computes.

Continuous batching with chunked prefill: a step holds one token of every running sequence that
decodes, and fills up with chunks of prompts. A sequence owns the blocks of its whole prompt from
the moment it runs, so that a prompt once begun is never stuck halfway; only decoding asks for
more, and takes them from the least important sequence when none is left.

Source:
    Iteration-level scheduling: Orca, OSDI 2022. Chunked prefill: Sarathi, arXiv 2308.16369.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from stillhouse.engines.openvino.sequence import SequenceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillhouse.engines.openvino.kv_blocks import KVBlocks
    from stillhouse.engines.openvino.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Slice:
    """
    Tokens of a sequence that a step computes.

    All of it is noted when the step is scheduled: by the time the step is done, a cancel may
    have taken the sequence's state away.

    Args:
        begin: How many tokens were computed before.
        is_sampled: Whether the sequence's next token comes out of this step.

    """

    sequence: Sequence
    begin: int
    num_tokens: int
    is_sampled: bool

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int) -> Self:
        """Return the next *num_tokens* of what is not computed yet."""
        is_sampled = num_tokens == sequence.num_uncomputed
        return cls(sequence, sequence.num_computed, num_tokens, is_sampled)


class Scheduler:
    """
    Owns the sequences that wait and run, and the blocks they use.

    The most important sequence always advances, so everything is served in the end.

    Args:
        max_sequences: Most sequences that run at once.
        max_batch_tokens: Most tokens in a step; more than *max_sequences*.
        prefill_chunk_tokens: Most tokens of one prompt in a step.

    """

    def __init__(
        self,
        blocks: KVBlocks,
        *,
        block_size: int,
        max_sequences: int,
        max_batch_tokens: int,
        prefill_chunk_tokens: int,
    ) -> None:
        self._blocks = blocks
        self._block_size = block_size
        self._max_sequences = max_sequences
        self._max_batch_tokens = max_batch_tokens
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []
        self._running: list[Sequence] = []
        # Prefixes that a running sequence is about to compute. Another that needs one waits for it.
        self._being_computed: dict[bytes, Sequence] = {}

    @property
    def num_waiting(self) -> int:
        """Sequences that own no blocks."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences that own the blocks of their tokens."""
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        """Let *sequence* wait for its turn; it must fit into an empty cache."""
        heapq.heappush(self._waiting, (sequence.importance, sequence))

    def schedule(self) -> list[Slice]:
        """Return the next step's batch, the most important sequence first."""
        self._grow_running()
        self._admit_waiting()
        return self._fill_batch()

    def advance(self, part: Slice) -> None:
        """Note that *part* was computed, and publish the blocks that it filled."""
        sequence = part.sequence
        first_block = sequence.num_computed // self._block_size
        sequence.num_computed += part.num_tokens
        for index in range(first_block, sequence.num_computed // self._block_size):
            prefix = sequence.prefix_hash(index)
            self._blocks.publish(sequence.block_ids[index], prefix)
            self._end_claim(sequence, prefix)

    def remove(self, sequence: Sequence) -> None:
        """Forget *sequence*, wherever it stands, and release what it owns."""
        if sequence.state is SequenceState.RUNNING:
            self._stop_running(sequence)
        elif sequence.state is SequenceState.WAITING:
            self._waiting.remove((sequence.importance, sequence))
            heapq.heapify(self._waiting)
        sequence.state = SequenceState.FINISHED

    # The three parts of a schedule.

    def _grow_running(self) -> None:
        """Give every decoding sequence the block of its next token, the most important first."""
        for sequence in sorted(self._running, key=_importance):
            while sequence.state is SequenceState.RUNNING and self._lacks_block(sequence):
                if self._blocks.num_free:
                    sequence.block_ids.append(self._blocks.allocate())
                else:
                    self._preempt(max(self._running, key=_importance))

    def _admit_waiting(self) -> None:
        """Let sequences run, the most important first, as long as there is room for the next."""
        put_back = []
        while self._waiting:
            entry = heapq.heappop(self._waiting)
            sequence = entry[1]
            if self._awaits_prefix(sequence):
                put_back.append(entry)
            elif self._make_room(sequence):
                self._start_running(sequence)
            else:
                put_back.append(entry)
                break
        for entry in put_back:
            heapq.heappush(self._waiting, entry)

    def _fill_batch(self) -> list[Slice]:
        self._running.sort(key=_importance)
        num_decoding = sum(sequence.num_uncomputed == 1 for sequence in self._running)
        budget = self._max_batch_tokens - num_decoding
        batch = []
        for sequence in self._running:
            if sequence.num_uncomputed == 1:
                batch.append(Slice.of(sequence, 1))
                continue
            num_tokens = min(sequence.num_uncomputed, self._prefill_chunk_tokens, budget)
            if num_tokens:
                batch.append(Slice.of(sequence, num_tokens))
                budget -= num_tokens
        return batch

    # Room and prefixes.

    def _lacks_block(self, sequence: Sequence) -> bool:
        return len(sequence.block_ids) < sequence.num_blocks_for(sequence.num_tokens)

    def _make_room(self, sequence: Sequence) -> bool:
        """Preempt what has a lower priority until *sequence* can run; return whether it can."""
        while not self._has_room(sequence):
            least = max(self._running, key=_importance, default=None)
            if least is None or least.request.priority <= sequence.request.priority:
                return False
            self._preempt(least)
        return True

    def _has_room(self, sequence: Sequence) -> bool:
        """
        Return whether *sequence* can run beside the others.

        One block for each of them stays free, or it would be preempted as soon as they grow.
        """
        if len(self._running) >= self._max_sequences:
            return False
        num_shared = sum(self._blocks.is_used(block) for block in self._cached_prefix(sequence))
        num_needed = sequence.num_blocks_for(sequence.num_tokens) - num_shared
        return num_needed + len(self._running) <= self._blocks.num_free

    def _cached_prefix(self, sequence: Sequence) -> Iterator[int]:
        """Yield the blocks that *sequence* can start with; one token at least stays to compute."""
        for index in range((sequence.num_tokens - 1) // self._block_size):
            block = self._blocks.find(sequence.prefix_hash(index))
            if block is None:
                return
            yield block

    def _awaits_prefix(self, sequence: Sequence) -> bool:
        """Return whether another, no less important by priority, is computing what comes next."""
        index = sum(1 for _ in self._cached_prefix(sequence))
        if index >= (sequence.num_tokens - 1) // self._block_size:
            return False
        producer = self._being_computed.get(sequence.prefix_hash(index))
        return producer is not None and producer.request.priority <= sequence.request.priority

    # Changes of state.

    def _start_running(self, sequence: Sequence) -> None:
        for block in list(self._cached_prefix(sequence)):
            self._blocks.share(block)
            sequence.block_ids.append(block)
        sequence.num_computed = len(sequence.block_ids) * self._block_size
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
        while self._lacks_block(sequence):
            sequence.block_ids.append(self._blocks.allocate())
        for prefix in self._prefixes_ahead(sequence):
            self._being_computed.setdefault(prefix, sequence)
        sequence.state = SequenceState.RUNNING
        self._running.append(sequence)

    def _stop_running(self, sequence: Sequence) -> None:
        for prefix in self._prefixes_ahead(sequence):
            self._end_claim(sequence, prefix)
        # The end of a prefix is of use only with its beginning, so it shall be reused first.
        for block in reversed(sequence.block_ids):
            self._blocks.release(block)
        del sequence.block_ids[:]
        sequence.num_computed = 0
        self._running.remove(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        """Take back everything; the sequence is computed again when there is room for it."""
        self._stop_running(sequence)
        sequence.state = SequenceState.WAITING
        self.add(sequence)

    def _prefixes_ahead(self, sequence: Sequence) -> Iterator[bytes]:
        first, last = (
            sequence.num_computed // self._block_size,
            sequence.num_tokens // self._block_size,
        )
        for index in range(first, last):
            yield sequence.prefix_hash(index)

    def _end_claim(self, sequence: Sequence, prefix: bytes) -> None:
        if self._being_computed.get(prefix) is sequence:
            del self._being_computed[prefix]


def _importance(sequence: Sequence) -> tuple[int, int]:
    return sequence.importance
