"""Holds the fake engine's state of one sequence."""

from __future__ import annotations

import hashlib
import math
import os
from array import array
from dataclasses import dataclass, field, replace

from stillhouse.engines.base import EngineFinish, GenerateRequest
from stillhouse.testing.fake_engine.settings import Fault, FaultKind
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage

HUGE_COUNT = 10**9
NARROW = 1e-3  # sampling that leaves less than this to chance leaves only the likeliest token
DECIDING_BIAS = 100.0
LOGPROB_OF_DRAWN = -math.log(2)


@dataclass(slots=True)
class FakeSequence:
    """
    Holds a prompt and the words that follow it.

    Its tokens are a function of prompt, seed and index, independent of other sequences.

    A word has no probability here, so penalties change nothing, and of the logit biases only those
    that decide alone: from +100 a token is always chosen (the first of these), from -100 down
    never, as long as there is another word. Log probabilities are made up: the chosen word has 1/2,
    the words after it 1/4, 1/8 and so on.

    Args:
        word_ids: The first and the last token id that the completion is made of.
        fault: The fault that it meets.

    Attributes:
        due_s: When the next token is to be made, by the monotonic clock.
        num_cached: Prompt tokens found in the prefix cache when it started.

    """

    sequence_id: int
    request: GenerateRequest
    word_ids: tuple[int, int]
    fault: Fault | None
    due_s: float = 0.0
    num_cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    finish: EngineFinish | None = None
    _root: bytes = b""
    _forced: int | None = None
    _forbidden: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        biases = self.request.sampling.logit_bias
        self._forced = next((word for word, bias in biases if bias >= DECIDING_BIAS), None)
        self._forbidden = frozenset(word for word, bias in biases if bias <= -DECIDING_BIAS)
        prompt = array("q", self.request.prompt_token_ids).tobytes()
        self._root = hashlib.blake2b(prompt + _entropy(self.request.sampling)).digest()

    @property
    def importance(self) -> tuple[int, int]:
        """The sort key of scheduling: priority, then arrival."""
        return (self.request.priority, self.sequence_id)

    @property
    def usage(self) -> TokenUsage:
        """The counts so far: exact, unless a wrong count is this sequence's fault."""
        exact = TokenUsage(
            prompt_tokens=len(self.request.prompt_token_ids),
            cached_tokens=self.num_cached,
            completion_tokens=len(self.token_ids),
        )
        if self.meets(FaultKind.NEGATIVE_USAGE):
            return replace(exact, completion_tokens=-1)
        if self.meets(FaultKind.HUGE_USAGE):
            return replace(exact, completion_tokens=HUGE_COUNT)
        if self.meets(FaultKind.NO_USAGE):
            return TokenUsage()
        return exact

    def meets(self, kind: FaultKind) -> bool:
        """Returns whether this fault has begun."""
        fault = self.fault
        return fault is not None and fault.kind is kind and fault.at_token < len(self.token_ids)

    @property
    def must_be_refused(self) -> bool:
        """Whether the sequence fails by its request's own fault."""
        if self.fault is None or self.fault.kind is not FaultKind.REFUSE:
            return False
        return self.fault.at_token <= len(self.token_ids)

    def make_token(self) -> int:
        """Makes the next token and finishes if it is the last."""
        index = len(self.token_ids)
        draw = hashlib.blake2b(self._root + index.to_bytes(8, "big"), digest_size=8).digest()
        token_id = self._pick(int.from_bytes(draw, "big"))
        self.token_ids.append(token_id)
        if token_id in self.request.stop_token_ids:
            self.finish = EngineFinish.STOP
        elif len(self.token_ids) >= self.request.max_tokens:
            self.finish = EngineFinish.LENGTH
        return token_id

    def logprobs_of_last(self) -> tuple[StepLogprobs, ...]:
        """Makes up the log probabilities of the last token that the request asks for."""
        num_top = self.request.top_logprobs
        if num_top is None:
            return ()
        (first, last), drawn = self.word_ids, self.token_ids[-1]
        ranks = range(1, min(num_top, last + 1 - first))
        following = [self._word(drawn - first + rank) for rank in ranks]
        likeliest = [drawn, *following][:num_top]
        top = ((word, (rank + 1) * LOGPROB_OF_DRAWN) for rank, word in enumerate(likeliest))
        return (StepLogprobs(LOGPROB_OF_DRAWN, tuple(top)),)

    def _pick(self, draw: int) -> int:
        if self._forced is not None:
            return self._forced
        # At least one of these consecutive words is not forbidden.
        words = (self._word(draw + skipped) for skipped in range(len(self._forbidden) + 1))
        return next((word for word in words if word not in self._forbidden), self._word(draw))

    def _word(self, number: int) -> int:
        first, last = self.word_ids
        return first + number % (last + 1 - first)


def _entropy(sampling: SamplingParams) -> bytes:
    """Returns the tokens' source beside the prompt: nothing, the seed, or chance."""
    is_greedy = (
        min(sampling.temperature, sampling.top_p, 1 - sampling.min_p) < NARROW
        or sampling.top_k == 1
    )
    if is_greedy:
        return b""
    return os.urandom(16) if sampling.seed is None else str(sampling.seed).encode()
