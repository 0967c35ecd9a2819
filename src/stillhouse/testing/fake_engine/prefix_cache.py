"""Counts cached prefix tokens by salt, as a KV cache would."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from stillhouse.engines.base import GenerateRequest

HASH_BYTES = 16


class PrefixCache:
    """
    Remembers the most recently used whole blocks of prefixes.

    Args:
        num_blocks: Most blocks that are remembered.
        block_size: Tokens per block.

    """

    def __init__(self, *, num_blocks: int, block_size: int) -> None:
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def num_cached(self, request: GenerateRequest) -> int:
        """Returns how many tokens of the prompt are known; its last one is always computed."""
        num_blocks = 0
        for name in self._names(request, request.prompt_token_ids[:-1]):
            if name not in self._seen:
                break
            num_blocks += 1
        return num_blocks * self._block_size

    def remember(self, request: GenerateRequest, token_ids: Sequence[int]) -> None:
        """Adds the whole blocks of *token_ids*, which *request* computed."""
        for name in self._names(request, token_ids):
            self._seen[name] = None
            self._seen.move_to_end(name)
        while len(self._seen) > self._num_blocks:
            self._seen.popitem(last=False)

    def _names(self, request: GenerateRequest, token_ids: Sequence[int]) -> list[bytes]:
        """Names each whole block by its tokens and, through its parent, all before them."""
        names = []
        parent = repr(request.cache_keys).encode() if request.cache_keys else b""
        first_private = request.num_public_tokens // self._block_size * self._block_size
        for end in range(self._block_size, len(token_ids) + 1, self._block_size):
            if end - self._block_size == first_private:
                parent += b"salt " + request.cache_salt.encode()
            block = array("q", token_ids[end - self._block_size : end])
            parent = hashlib.blake2b(parent + block.tobytes(), digest_size=HASH_BYTES).digest()
            names.append(parent)
        return names
