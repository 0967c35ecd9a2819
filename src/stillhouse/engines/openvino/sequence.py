"""One request on its way through the engine."""

from __future__ import annotations

from array import array
from enum import Enum, auto
from typing import TYPE_CHECKING

from stillhouse.chat import TokenUsage
from stillhouse.engines.base import EngineFinish
from stillhouse.engines.openvino.kv_blocks import block_hash, root_hash

if TYPE_CHECKING:
    import numpy as np

    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.logit_rules import LogitRules


class SequenceState(Enum):
    """Where a sequence stands."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class Sequence:
    """
    A prompt and what was generated after it.

    Args:
        sequence_id: Later ones are higher.
        generator: Draws for this sequence alone; None takes the likeliest token.
        logit_rules: What its logits go through before; None where that is nothing.

    Attributes:
        token_ids: Prompt and completion.
        num_computed: How many of them have their keys and values in `block_ids`.
        block_ids: The blocks of the KV cache, in order.
        num_cached: Prompt tokens found in the prefix cache when the sequence first ran; None
            before that.

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
        self.state = SequenceState.WAITING
        self.finish: EngineFinish | None = None
        self.token_ids = array("q", request.prompt_token_ids)
        self.num_computed = 0
        self.num_cached: int | None = None
        self.block_ids = array("i")
        self._block_size = block_size
        self._stop_token_ids = frozenset(request.stop_token_ids)
        self._hashes = [root_hash(request.cache_salt)]

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
    def importance(self) -> tuple[int, int]:
        """Sorts first what goes first: by priority, then by arrival."""
        return (self.request.priority, self.sequence_id)

    @property
    def usage(self) -> TokenUsage:
        """The exact counts so far."""
        return TokenUsage(
            prompt_tokens=self.num_prompt_tokens,
            cached_tokens=self.num_cached or 0,
            completion_tokens=self.num_tokens - self.num_prompt_tokens,
        )

    def num_blocks_for(self, num_tokens: int) -> int:
        """Return how many blocks hold *num_tokens*."""
        return -(-num_tokens // self._block_size)

    def prefix_hash(self, index: int) -> bytes:
        """Return the name of block *index*, whose tokens must all be known."""
        while len(self._hashes) <= index + 1:
            start = (len(self._hashes) - 1) * self._block_size
            tokens = self.token_ids[start : start + self._block_size]
            self._hashes.append(block_hash(self._hashes[-1], tokens.tobytes()))
        return self._hashes[index + 1]

    def append(self, token_id: int) -> None:
        """Take a sampled token, and finish if it is the last."""
        self.token_ids.append(token_id)
        if token_id in self._stop_token_ids:
            self.finish = EngineFinish.STOP
        elif self.num_tokens - self.num_prompt_tokens >= self.request.max_tokens:
            self.finish = EngineFinish.LENGTH
