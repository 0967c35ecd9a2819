"""
Schedules the tokens that the next step computes.

Continuous batching with chunked prefill: a step holds one token of every running sequence that
decodes, and fills up with chunks of prompts. A sequence owns the blocks of its whole prompt from
the moment it runs, so that a prompt once begun is never stuck halfway; only decoding allocates
more, and preempts the least important sequence when none is left.

Source:
    Iteration-level scheduling: Orca, OSDI 2022. Chunked prefill: Sarathi, arXiv 2308.16369.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from stillhouse.engines.openvino.scheduling.sequence import SequenceState
from stillhouse.engines.openvino.speculation.drafts import NO_DRAFT, Draft

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillhouse.engines.openvino.kv.blocks import KVBlocks
    from stillhouse.engines.openvino.kv.prefix_cache import PrefixCache
    from stillhouse.engines.openvino.scheduling.sequence import Sequence
    from stillhouse.engines.openvino.speculation.speculation import Speculation


@dataclass(frozen=True, slots=True)
class Slice:
    """
    Describes the tokens of one sequence that a step computes.

    All fields are set when the step is scheduled: a cancel may remove the sequence's state before
    the step is done.

    Args:
        begin: Number of tokens computed before.
        num_tokens: Number of the sequence's own tokens in this step.
        is_sampled: Whether this step samples the sequence's next token.
        draft: The draft tokens that are computed behind the sequence's own.

    """

    sequence: Sequence
    begin: int
    num_tokens: int
    is_sampled: bool
    draft: Draft = NO_DRAFT

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int) -> Self:
        """Returns the tokens that this step computes."""
        is_sampled = num_tokens == sequence.num_uncomputed
        return cls(sequence, sequence.num_computed, num_tokens, is_sampled)

    @property
    def num_rows(self) -> int:
        """Number of computed tokens, including draft tokens."""
        return self.num_tokens + len(self.draft.token_ids)

    @property
    def num_sampled_rows(self) -> int:
        """Rows of logits: one for the sequence's last token, one for each draft token."""
        return 1 + len(self.draft.token_ids) if self.is_sampled else 0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """
    Bounds the tokens and sequences of a step.

    Args:
        max_sequences: Most sequences that run at once.
        max_tokens: Most tokens in a step; more than *max_sequences*.
        prompt_budget: Maps the number of other tokens in a step and the number of prompt tokens
            that still fit to the number of prompt tokens to compute: at least one.
        max_chunk_tokens: Most tokens of one prompt in a step; None sets no limit.

    """

    max_sequences: int
    max_tokens: int
    prompt_budget: Callable[[int, int], int]
    max_chunk_tokens: int | None = None


class Scheduler:
    """
    Owns the waiting and running sequences, and the blocks they use.

    The most important sequence always advances, so every sequence finishes in the end. Its methods
    are the steps of one schedule over one state; a split would pass that state around.

    Args:
        prefix_cache: The prefixes that sequences share, held in the same *blocks*.
        speculation: Chooses drafts for decoding sequences; None proposes none.

    """

    def __init__(
        self,
        blocks: KVBlocks,
        prefix_cache: PrefixCache,
        limits: BatchLimits,
        *,
        block_size: int,
        speculation: Speculation | None = None,
    ) -> None:
        self._blocks = blocks
        self._prefix_cache = prefix_cache
        self._limits = limits
        self._block_size = block_size
        self._speculation = speculation
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []
        self._running: list[Sequence] = []

    @property
    def num_waiting(self) -> int:
        """Sequences that own no blocks."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences that own the blocks of their tokens."""
        return len(self._running)

    @property
    def is_restoring(self) -> bool:
        """Whether prefixes are still to be brought back from disk; a batch may then be empty."""
        return any(sequence.is_restoring for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Queues *sequence*; it must fit into an empty cache."""
        heapq.heappush(self._waiting, (sequence.importance, sequence))

    def schedule(self) -> list[Slice]:
        """Returns the next step's batch, the most important sequence first."""
        self._grow_running()
        self._admit_waiting()
        self._prefix_cache.forget_partials()
        self._prefix_cache.restore(sorted(self._running, key=_importance))
        return self._with_drafts(self._fill_batch())

    def advance(self, part: Slice, *, num_accepted: int = 0) -> None:
        """
        Records that *part* was computed, and publishes the blocks that it filled.

        Args:
            num_accepted: Number of draft tokens that were appended to the sequence.

        """
        sequence = part.sequence
        begin = sequence.num_computed
        sequence.num_computed += part.num_tokens + num_accepted
        self._prefix_cache.publish(sequence, since=begin)
        # Blocks of rejected draft tokens are freed before a sequence is preempted for want of them.
        while len(sequence.block_ids) > sequence.num_blocks_for(sequence.num_tokens):
            self._blocks.release(sequence.block_ids.pop())

    def remove(self, sequence: Sequence) -> None:
        """Removes *sequence* in any state, and releases its blocks."""
        if sequence.state is SequenceState.RUNNING:
            self._stop_running(sequence)
        elif sequence.state is SequenceState.WAITING:
            self._waiting.remove((sequence.importance, sequence))
            heapq.heapify(self._waiting)
        sequence.state = SequenceState.FINISHED
        if not self._waiting:
            self._prefix_cache.forget_partials()

    def put_off(self, sequence: Sequence) -> None:
        """Releases all blocks of a running *sequence*; the caller adds it again later."""
        self._stop_running(sequence)
        sequence.was_preempted = True
        sequence.state = SequenceState.WAITING

    # The parts of a schedule.

    def _grow_running(self) -> None:
        """Gives every decoding sequence the block of its next token, the most important first."""
        for sequence in sorted(self._running, key=_importance):
            while sequence.state is SequenceState.RUNNING and self._lacks_block(sequence):
                if self._blocks.num_free:
                    sequence.block_ids.append(self._blocks.allocate())
                else:
                    self._preempt(max(self._running, key=_importance))

    def _admit_waiting(self) -> None:
        """Starts waiting sequences, the most important first, until the next one does not fit."""
        put_back = []
        while self._waiting:
            entry = heapq.heappop(self._waiting)
            sequence = entry[1]
            if self._prefix_cache.has_prefix_in_flight(sequence):
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
        ready = [sequence for sequence in self._running if not sequence.is_restoring]
        prompts = [sequence for sequence in ready if sequence.num_uncomputed > 1]
        num_decoding = len(ready) - len(prompts)
        shares = self._share_out(prompts, num_decoding) if prompts else {}
        sizes = ((sequence, shares.get(sequence.sequence_id, 1)) for sequence in ready)
        return [Slice.of(sequence, num_tokens) for sequence, num_tokens in sizes if num_tokens]

    def _share_out(self, prompts: list[Sequence], num_decoding: int) -> dict[int, int]:
        """
        Returns how many tokens of each prompt the step computes, by their sequences' ids.

        First come, first served; but as much as half goes to prompts that end with it, so that a
        short question does not wait for a long document.
        """
        limits = self._limits
        left = limits.prompt_budget(num_decoding, limits.max_tokens - num_decoding)
        most = limits.max_chunk_tokens or left
        shares = {}
        left_for_short = min(left // 2, most)
        for sequence in prompts:
            is_equal = sequence.request.priority == prompts[0].request.priority
            if is_equal and sequence.num_uncomputed <= left_for_short:
                shares[sequence.sequence_id] = sequence.num_uncomputed
                left_for_short -= sequence.num_uncomputed
                left -= sequence.num_uncomputed
        for sequence in prompts:
            if sequence.sequence_id not in shares:
                shares[sequence.sequence_id] = min(sequence.num_uncomputed, most, left)
                left -= shares[sequence.sequence_id]
        return shares

    def _with_drafts(self, batch: list[Slice]) -> list[Slice]:
        """Adds draft tokens where no other sequence needs the blocks and the place in the batch."""
        # Prompts fill a step up to its target; draft tokens beside them would delay all others.
        if self._speculation is None or any(part.num_tokens > 1 for part in batch):
            return batch
        num_tokens = sum(part.num_tokens for part in batch)
        drafts = self._speculation.draft(
            [part.sequence for part in batch if part.is_sampled],
            num_tokens=num_tokens,
            most=self._limits.max_tokens - num_tokens,
        )
        return [
            self._with_draft(part, drafts[part.sequence.sequence_id])
            if part.sequence.sequence_id in drafts
            else part
            for part in batch
        ]

    def _with_draft(self, part: Slice, draft: Draft) -> Slice:
        sequence = part.sequence
        num_blocks = sequence.num_blocks_for(sequence.num_tokens + len(draft.token_ids))
        while len(sequence.block_ids) < num_blocks and self._blocks.num_free:
            sequence.block_ids.append(self._blocks.allocate())
        num_places = len(sequence.block_ids) * self._block_size - sequence.num_tokens
        return replace(part, draft=draft.cut(num_places))

    # Room and prefixes.

    def _lacks_block(self, sequence: Sequence) -> bool:
        return len(sequence.block_ids) < sequence.num_blocks_for(sequence.num_tokens)

    def _make_room(self, sequence: Sequence) -> bool:
        """Preempts sequences of lower priority until *sequence* can run; returns whether it can."""
        while not self._has_room(sequence):
            least = max(self._running, key=_importance, default=None)
            if least is None or least.request.priority <= sequence.request.priority:
                return False
            self._preempt(least)
        return True

    def _has_room(self, sequence: Sequence) -> bool:
        """
        Returns whether *sequence* can run beside the others.

        One block for each of them stays free, or it would be preempted as soon as they grow.
        """
        if len(self._running) >= self._limits.max_sequences:
            return False
        num_shared = sum(
            self._blocks.is_used(block) for block in self._prefix_cache.cached(sequence)
        )
        num_needed = sequence.num_blocks_for(sequence.num_tokens) - num_shared
        return num_needed + len(self._running) <= self._blocks.num_free

    # Changes of state.

    def _start_running(self, sequence: Sequence) -> None:
        self._prefix_cache.reuse(sequence)
        while self._lacks_block(sequence):
            sequence.block_ids.append(self._blocks.allocate())
        self._prefix_cache.mark_in_flight(sequence)
        sequence.state = SequenceState.RUNNING
        self._running.append(sequence)

    def _stop_running(self, sequence: Sequence) -> None:
        self._prefix_cache.release(sequence)
        # The end of a prefix is useless without its start, so it is released (and reused) first.
        for block in reversed(sequence.block_ids):
            self._blocks.release(block)
        del sequence.block_ids[:]
        sequence.num_computed = 0
        self._running.remove(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        """Releases all blocks; the sequence is computed again when it fits."""
        self.put_off(sequence)
        self.add(sequence)


def _importance(sequence: Sequence) -> tuple[int, int]:
    return sequence.importance
