"""Holds the engine's state of one sequence."""

from __future__ import annotations

from array import array
from enum import Enum, auto
from functools import cached_property
from typing import TYPE_CHECKING

from stillhouse.engines.base import EngineFinish
from stillhouse.engines.openvino.kv.blocks import block_hash, private_hash, root_hash
from stillhouse.types.usage import TokenUsage

if TYPE_CHECKING:
    import numpy as np

    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.sampling.logit_rules import LogitRules
    from stillhouse.engines.openvino.speculation.draft_record import DraftRecord


class SequenceState(Enum):
    """The scheduling state of a sequence."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class Sequence:
    """
    Holds a prompt and the tokens generated after it.

    Args:
        sequence_id: Later ones are higher.
        generator: The sequence's own random source; None takes the likeliest token.
        logit_rules: Rules applied to the logits before sampling; None applies none.

    Attributes:
        token_ids: Prompt and completion.
        num_computed: Number of tokens with keys and values in `block_ids`.
        block_ids: The blocks of the KV cache, in order.
        draft_record: Acceptance counts of its draft tokens; None where none are proposed.
        num_cached: Prompt tokens in whole blocks found in the prefix cache, in memory or on disk,
            when the sequence first ran; None before that.
        num_public_blocks: Number of leading blocks that all cache salts share.
        num_disk_blocks: Number of leading blocks that have to be read back from disk.
        was_preempted: Whether it ran before and lost its blocks.

    """

    def __init__(
        self,
        sequence_id: int,
        request: GenerateRequest,
        *,
        block_size: int,
        generator: np.random.Generator | None,
        logit_rules: LogitRules | None = None,
    ) -> None:
        self.sequence_id = sequence_id
        self.request = request
        self.generator = generator
        self.logit_rules = logit_rules
        self.draft_record: DraftRecord | None = None
        self.state = SequenceState.WAITING
        self.finish: EngineFinish | None = None
        self.token_ids = array("q", request.prompt_token_ids)
        self.num_computed = 0
        self.num_cached: int | None = None
        self.block_ids = array("i")
        self._block_size = block_size
        self._stop_token_ids = frozenset(request.stop_token_ids)
        self.num_public_blocks = request.num_public_tokens // block_size
        self.num_disk_blocks = 0
        self.was_preempted = False
        self._hashes: list[bytes] = []

    @property
    def num_tokens(self) -> int:
        """Prompt and completion together."""
        return len(self.token_ids)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_uncomputed(self) -> int:
        """Tokens to be computed before the next one can be sampled; 1 while decoding."""
        return self.num_tokens - self.num_computed

    @property
    def num_tokens_left(self) -> int:
        """Most tokens that may still be generated."""
        return self.num_prompt_tokens + self.request.max_tokens - self.num_tokens

    @property
    def importance(self) -> tuple[int, int]:
        """The sort key of scheduling: priority, then arrival."""
        return (self.request.priority, self.sequence_id)

    @property
    def usage(self) -> TokenUsage:
        """The exact counts so far."""
        return TokenUsage(
            prompt_tokens=self.num_prompt_tokens,
            cached_tokens=self.num_cached or 0,
            completion_tokens=self.num_tokens - self.num_prompt_tokens,
        )

    @property
    def is_restoring(self) -> bool:
        """Whether some of its blocks still have to be read back from disk."""
        return self.num_computed < self.num_disk_blocks * self._block_size

    def num_blocks_for(self, num_tokens: int) -> int:
        """Returns how many blocks hold *num_tokens*."""
        return -(-num_tokens // self._block_size)

    def prefix_hash(self, index: int) -> bytes:
        """Returns the name of block *index*, whose tokens must all be known."""
        while len(self._hashes) <= index:
            start = len(self._hashes) * self._block_size
            tokens = self.token_ids[start : start + self._block_size]
            self._hashes.append(block_hash(self._parent_hash(len(self._hashes)), tokens.tobytes()))
        return self._hashes[index]

    @cached_property
    def partial_hash(self) -> bytes | None:
        """The name of the prompt's partial block, less the last token; None if empty."""
        last = self.num_prompt_tokens - 1
        index = last // self._block_size
        tokens = self.token_ids[index * self._block_size : last]
        return block_hash(self._parent_hash(index), tokens.tobytes()) if tokens else None

    def _parent_hash(self, index: int) -> bytes:
        """Returns the parent hash of block *index*."""
        parent = self.prefix_hash(index - 1) if index else root_hash(self.request.cache_keys)
        if index == self.num_public_blocks:
            return private_hash(parent, self.request.cache_salt)
        return parent

    def append(self, token_id: int) -> None:
        """Appends a sampled token, and finishes if it is the last."""
        self.token_ids.append(token_id)
        if token_id in self._stop_token_ids:
            self.finish = EngineFinish.STOP
        elif self.num_tokens_left <= 0:
            self.finish = EngineFinish.LENGTH
