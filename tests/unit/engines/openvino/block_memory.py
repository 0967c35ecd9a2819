"""A double of the decoder's memory: blocks of one integer per token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_SIZE = 4


class BlockMemory:
    """
    What `KVBlocks` count.

    Attributes:
        slots: int64, shape (blocks, tokens of a block).

    """

    block_bytes = 8 * BLOCK_SIZE

    def __init__(self, num_blocks: int) -> None:
        self.slots = np.zeros((num_blocks, BLOCK_SIZE), np.int64)

    def read_block(self, block: int) -> NDArray[np.uint8]:
        return np.frombuffer(self.slots[block].tobytes(), np.uint8)

    def write_block(self, block: int, content: NDArray[np.uint8]) -> None:
        self.slots[block] = content.view(np.int64)

    def copy_block(self, source: int, target: int) -> None:
        self.slots[target] = self.slots[source]
