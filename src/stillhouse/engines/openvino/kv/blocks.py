"""
Allocates and evicts the KV cache's blocks, and finds blocks by the prefix that they hold.

Source:
    Paged KV cache: arXiv 2309.06180. Prefix caching by chained block hashes: vLLM,
    docs/design/prefix_caching.md.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

HASH_BYTES = 16


PUBLIC_ROOT = hashlib.blake2b(digest_size=HASH_BYTES, person=b"kv-public").digest()


def root_hash(cache_keys: Sequence[str]) -> bytes:
    """
    Returns the parent of a prompt's first block, which is in the hash of every block after it.

    Args:
        cache_keys: Further inputs of keys and values beside the tokens: an adapter's id, a
            medium's digest. Without any, the parent is `PUBLIC_ROOT`.

    """
    if not cache_keys:
        return PUBLIC_ROOT
    digest = hashlib.blake2b(digest_size=HASH_BYTES, person=b"kv-keys")
    for key in cache_keys:
        encoded = key.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)  # so that no two tuples are alike
    return digest.digest()


def private_hash(parent: bytes, cache_salt: str) -> bytes:
    """
    Returns the parent hash of the first block that is private to *cache_salt*.

    Args:
        parent: The name of the last public block, or `root_hash` where there is none.

    """
    salted = parent + cache_salt.encode()
    return hashlib.blake2b(salted, digest_size=HASH_BYTES, person=b"kv-private").digest()


def block_hash(parent: bytes, token_bytes: bytes) -> bytes:
    """Returns the name of a full block: its tokens and, through *parent*, all before them."""
    return hashlib.blake2b(parent + token_bytes, digest_size=HASH_BYTES).digest()


class BlockMemory(Protocol):
    """The bytes of the blocks, over all layers; nothing is computed while they are touched."""

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        ...

    def read_block(self, block: int) -> NDArray[np.uint8]:
        """Returns a copy of the content of *block*."""
        ...

    def write_block(self, block: int, content: NDArray[np.uint8]) -> None:
        """Writes bytes that `read_block` returned into *block*."""
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Copies the content of *source* to *target*."""
        ...


class KVBlocks:
    """
    Counts references to blocks and keeps the prefixes of released ones findable.

    A block is free, used by one or more sequences, or cached: released but still holding a
    prefix that a later prompt may start with. Cached blocks are handed out again when no free
    one is left, least recently released first.

    A block can also be known by the end of a prompt that fills only a part of it. That gives it
    no place in the cache: others can copy the part for a moment, until `forget_partials`.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._num_users = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._block_by_hash: dict[bytes, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._partials: list[bytes | None] = [None] * num_blocks
        self._block_by_partial: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Number of blocks that can be allocated now, including cached ones."""
        return len(self._free) + len(self._cached)

    def allocate(self) -> int:
        """
        Allocates a block with undefined content.

        Raises:
            IndexError: None is free; check `num_free` first.

        """
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        else:
            raise IndexError("No block is free. This is a bug: num_free was not asked.")
        self._forget_partial(block)
        self._num_users[block] = 1
        return block

    def find(self, prefix: bytes) -> int | None:
        """Returns the block that holds the prefix of this hash; it stays as it is."""
        return self._block_by_hash.get(prefix)

    def is_used(self, block: int) -> bool:
        """Returns whether a sequence uses *block*, so that sharing it takes nothing from others."""
        return self._num_users[block] > 0

    def share(self, block: int) -> None:
        """Uses a block that `find` returned."""
        if self._num_users[block] == 0:
            del self._cached[block]
        self._num_users[block] += 1

    def release(self, block: int) -> None:
        """Gives up one use of *block*."""
        self._num_users[block] -= 1
        if self._num_users[block] > 0:
            return
        if self._hashes[block] is None:
            self._free.append(block)
        else:
            self._cached[block] = None

    def publish(self, block: int, prefix: bytes) -> None:
        """Publishes *block*, which is full and does not change while it has this name."""
        if self._hashes[block] is None and prefix not in self._block_by_hash:
            self._hashes[block] = prefix
            self._block_by_hash[prefix] = block

    def find_partial(self, partial: bytes) -> int | None:
        """Returns a block that holds this end of a prompt, until the next `allocate`."""
        return self._block_by_partial.get(partial)

    def publish_partial(self, block: int, partial: bytes) -> None:
        """Publishes *block*, in which a prompt ends, for copying."""
        if self._partials[block] is None and partial not in self._block_by_partial:
            self._partials[block] = partial
            self._block_by_partial[partial] = block

    def forget_partials(self) -> None:
        """Stops sharing partial blocks."""
        for block in self._block_by_partial.values():
            self._partials[block] = None
        self._block_by_partial.clear()

    def _forget_partial(self, block: int) -> None:
        partial = self._partials[block]
        if partial is not None:
            del self._block_by_partial[partial]
            self._partials[block] = None

    def _forget(self, block: int) -> None:
        prefix = self._hashes[block]
        if prefix is not None:
            del self._block_by_hash[prefix]
            self._hashes[block] = None
