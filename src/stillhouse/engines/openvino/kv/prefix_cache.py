"""Shares prefixes between sequences: whole blocks in memory and on disk, and partial blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stillhouse.engines.openvino.kv.blocks import BlockMemory, KVBlocks
    from stillhouse.engines.openvino.kv.disk_tier import DiskTier
    from stillhouse.engines.openvino.scheduling.sequence import Sequence

MAX_RESTORED_BYTES = 16 * 1024 * 1024  # in one step: 20 ms where the files are in memory


class PrefixCache:
    """
    Reuses the prefixes that other sequences have computed.

    Sequences share whole blocks. The partial block behind a prompt's last whole block is copied, so
    that of equal prompts all but the first compute one token. Prefixes are deduplicated in flight:
    a sequence waits for blocks that a running one is about to compute.

    Public blocks, and blocks that a second sequence starts with, are kept on disk as soon as they
    are computed, so that they outlive a crash as well. Its methods look up and change one state,
    the blocks in memory, in flight and on disk; a split would pass that state around.

    Args:
        memory: Reads and writes the blocks' bytes.
        disk_tier: Keeps blocks on disk; None keeps none.

    """

    def __init__(
        self,
        blocks: KVBlocks,
        memory: BlockMemory,
        *,
        block_size: int,
        disk_tier: DiskTier | None = None,
    ) -> None:
        self._blocks = blocks
        self._memory = memory
        self._block_size = block_size
        self._disk_tier = disk_tier
        self._max_restored = max(1, MAX_RESTORED_BYTES // memory.block_bytes)
        # Prefixes in flight.
        self._in_flight: dict[bytes, Sequence] = {}

    def cached(self, sequence: Sequence) -> Iterator[int]:
        """Yields the blocks that *sequence* can start with; one token at least stays to compute."""
        for index in range(self._num_shareable_blocks(sequence)):
            block = self._blocks.find(sequence.prefix_hash(index))
            if block is None:
                return
            yield block

    def has_prefix_in_flight(self, sequence: Sequence) -> bool:
        """Returns whether a sequence of no lower priority is computing the next block."""
        index = sum(1 for _ in self.cached(sequence))
        if index < self._num_shareable_blocks(sequence):
            producer = self._in_flight.get(sequence.prefix_hash(index))
        elif partial := _partial_ahead(sequence):
            producer = self._in_flight.get(partial)
        else:
            return False
        return producer is not None and producer.request.priority <= sequence.request.priority

    def reuse(self, sequence: Sequence) -> None:
        """Reuses the cached prefix of *sequence*, which owns no blocks yet."""
        for block in list(self.cached(sequence)):
            self._blocks.share(block)
            sequence.block_ids.append(block)
        sequence.num_computed = len(sequence.block_ids) * self._block_size
        is_new = sequence.num_cached is None
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
        if self._disk_tier is not None:
            self._consult(self._disk_tier, sequence, is_new=is_new)
        if len(sequence.block_ids) == self._num_shareable_blocks(sequence):
            self._copy_partial(sequence)

    def mark_in_flight(self, sequence: Sequence) -> None:
        """Marks the blocks that *sequence* is about to compute, so that others wait for them."""
        for prefix in self._ahead(sequence):
            self._in_flight.setdefault(prefix, sequence)

    def release(self, sequence: Sequence) -> None:
        """Releases the marks of *sequence*, so that others no longer wait for it."""
        for prefix in self._ahead(sequence):
            self._end_in_flight(sequence, prefix)

    def publish(self, sequence: Sequence, *, since: int) -> None:
        """Publishes the blocks that *sequence* filled after its first *since* tokens."""
        for index in range(since // self._block_size, sequence.num_computed // self._block_size):
            self._publish_block(sequence, index)
        last = sequence.num_prompt_tokens - 1
        if since < last <= sequence.num_computed:
            self._publish_partial(sequence)

    def forget_partials(self) -> None:
        """
        Stops sharing partial blocks.

        Sequences that waited for one have copied it by now. Later the block holds more than the
        prompt, and as keys are quantised together with their neighbours in a block, a copy would
        differ: the same request would be answered otherwise the second time.
        """
        self._blocks.forget_partials()

    def restore(self, sequences: Iterable[Sequence]) -> None:
        """Reads blocks of *sequences* back from disk, in order, a bounded number at once."""
        num_left = self._max_restored
        for sequence in sequences:
            while num_left and sequence.is_restoring:
                self._restore_block(sequence)
                num_left -= 1

    # In memory.

    def _num_shareable_blocks(self, sequence: Sequence) -> int:
        return (sequence.num_tokens - 1) // self._block_size

    def _ahead(self, sequence: Sequence) -> Iterator[bytes]:
        first = sequence.num_computed // self._block_size
        for index in range(first, sequence.num_tokens // self._block_size):
            yield sequence.prefix_hash(index)
        if sequence.partial_hash and sequence.num_computed < sequence.num_prompt_tokens - 1:
            yield sequence.partial_hash

    def _end_in_flight(self, sequence: Sequence, prefix: bytes) -> None:
        if self._in_flight.get(prefix) is sequence:
            del self._in_flight[prefix]

    def _publish_block(self, sequence: Sequence, index: int) -> None:
        prefix, block = sequence.prefix_hash(index), sequence.block_ids[index]
        self._blocks.publish(block, prefix)
        self._end_in_flight(sequence, prefix)
        disk_tier = self._disk_tier
        if disk_tier is not None and index < min(sequence.num_public_blocks, disk_tier.max_blocks):
            disk_tier.save(prefix, block)

    def _publish_partial(self, sequence: Sequence) -> None:
        if sequence.partial_hash is not None:
            index = (sequence.num_prompt_tokens - 1) // self._block_size
            self._blocks.publish_partial(sequence.block_ids[index], sequence.partial_hash)
            self._end_in_flight(sequence, sequence.partial_hash)

    def _copy_partial(self, sequence: Sequence) -> None:
        partial = _partial_ahead(sequence)
        source = self._blocks.find_partial(partial) if partial else None
        if source is None:
            return
        block = self._blocks.allocate()
        if block != source:  # `allocate` may return the unused source itself
            self._memory.copy_block(source, block)
        sequence.block_ids.append(block)
        sequence.num_computed = sequence.num_tokens - 1
        self._publish_partial(sequence)

    # On disk.

    def _consult(self, disk_tier: DiskTier, sequence: Sequence, *, is_new: bool) -> None:
        """Saves the shared blocks of *sequence* to disk, and finds its further blocks there."""
        num_found = len(sequence.block_ids)
        if is_new:
            found = [sequence.prefix_hash(index) for index in range(num_found)]
            # The end of a prefix is of use only with its beginning, so it shall be removed first,
            # and not written where it would take the beginning's place.
            disk_tier.touch(reversed(found))
            for prefix, block in zip(
                found[: disk_tier.max_blocks], sequence.block_ids, strict=False
            ):
                disk_tier.save(prefix, block)
        index, last = num_found, self._num_shareable_blocks(sequence)
        while index < last and disk_tier.holds(sequence.prefix_hash(index)):
            index += 1
        sequence.num_disk_blocks = index

    def _restore_block(self, sequence: Sequence) -> None:
        assert self._disk_tier is not None
        begin = sequence.num_computed
        index = begin // self._block_size
        if not self._disk_tier.restore(sequence.prefix_hash(index), sequence.block_ids[index]):
            sequence.num_disk_blocks = index  # from here on it is computed
            return
        if sequence.num_cached == begin and not sequence.was_preempted:
            sequence.num_cached += self._block_size
        sequence.num_computed += self._block_size
        self.publish(sequence, since=begin)


def _partial_ahead(sequence: Sequence) -> bytes | None:
    """Returns the part of a block that *sequence* needs behind its whole blocks."""
    return sequence.partial_hash if sequence.num_tokens == sequence.num_prompt_tokens else None
