"""The engine itself: sequences in, tokens out, one step at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateStep
from stillhouse.engines.openvino.kv_blocks import KVBlocks
from stillhouse.engines.openvino.sampler import make_generator, sample
from stillhouse.engines.openvino.scheduler import Scheduler
from stillhouse.engines.openvino.sequence import Sequence
from stillhouse.errors import InvalidRequestError, RequestTooLargeForEngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy import float32
    from numpy.typing import NDArray

    from stillhouse.chat import SamplingParams
    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.decoder import Decoder
    from stillhouse.engines.openvino.scheduler import Slice
    from stillhouse.engines.openvino.settings import EngineSettings

SequenceSteps = list[tuple[int, GenerateStep]]


class Runner:
    """
    Generates for many sequences at once; one thread calls all of it.

    Args:
        decoder: With its KV cache allocated.
        vocab_size: Token ids of prompts are below it.
        context_length: Most tokens of one sequence.

    """

    def __init__(
        self, decoder: Decoder, settings: EngineSettings, *, vocab_size: int, context_length: int
    ) -> None:
        self._decoder = decoder
        self._vocab_size = vocab_size
        self.context_length = context_length
        self._blocks = KVBlocks(decoder.num_blocks)
        self._scheduler = Scheduler(
            self._blocks,
            block_size=decoder.block_size,
            max_sequences=settings.max_sequences,
            max_batch_tokens=settings.max_batch_tokens,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
        )
        self._sequences: dict[int, Sequence] = {}
        self._num_steps = 0

    @property
    def block_size(self) -> int:
        """Tokens per block of the KV cache."""
        return self._decoder.block_size

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._sequences)

    @property
    def health(self) -> EngineHealth:
        """How the engine stands."""
        return EngineHealth(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            num_free_blocks=self._blocks.num_free,
            num_blocks=self._blocks.num_blocks,
            num_steps=self._num_steps,
        )

    def add(self, sequence_id: int, request: GenerateRequest) -> None:
        """
        Take a request; its steps come under *sequence_id*, which must be higher than all before.

        Raises:
            InvalidRequestError: A value cannot be honoured.
            RequestTooLargeForEngineError: It can never fit.

        """
        self._check(request)
        sequence = Sequence(
            sequence_id,
            request,
            block_size=self._decoder.block_size,
            generator=make_generator(request.sampling),
        )
        self._sequences[sequence_id] = sequence
        self._scheduler.add(sequence)

    def cancel(self, sequence_id: int) -> SequenceSteps:
        """End a sequence and return its last step, or nothing if it has ended before."""
        sequence = self._sequences.get(sequence_id)
        if sequence is None:
            return []
        sequence.finish = EngineFinish.CANCELLED
        return [self._report(sequence, ())]

    def step(self, receive: Callable[[], None]) -> SequenceSteps:
        """
        Compute the next batch and return what it added.

        Args:
            receive: Called when the batch is computed and nothing of it is told yet: a sequence
                cancelled there gets no further token.

        """
        batch = self._scheduler.schedule()
        assert batch, "There is work, but none of it can advance. This is a bug."
        logits = self._decoder.run(batch)
        receive()
        return self._publish(batch, logits)

    def _publish(self, batch: list[Slice], logits: NDArray[float32]) -> SequenceSteps:
        self._num_steps += 1
        steps: SequenceSteps = []
        rows = iter(logits)
        for part in batch:
            sequence = part.sequence
            row = next(rows) if part.is_sampled else None
            if sequence.finish is not None:
                continue
            self._scheduler.advance(part)
            if row is not None:
                steps.append(self._sample(sequence, row))
        return steps

    def _sample(self, sequence: Sequence, logits: NDArray[float32]) -> tuple[int, GenerateStep]:
        request = sequence.request
        if request.max_tokens == 0:
            sequence.finish = EngineFinish.LENGTH
            return self._report(sequence, ())
        token_id = sample(logits, request.sampling, sequence.generator)
        sequence.append(token_id)
        return self._report(sequence, (token_id,))

    def _report(self, sequence: Sequence, new: tuple[int, ...]) -> tuple[int, GenerateStep]:
        """Return the step to be told, and forget the sequence if it is the last one."""
        if sequence.finish is not None:
            self._scheduler.remove(sequence)
            del self._sequences[sequence.sequence_id]
        return sequence.sequence_id, GenerateStep(new, sequence.usage, sequence.finish)

    def _check(self, request: GenerateRequest) -> None:
        prompt = request.prompt_token_ids
        if not prompt:
            raise InvalidRequestError("The prompt is empty.", param="messages")
        if min(prompt) < 0 or max(prompt) >= self._vocab_size:
            raise InvalidRequestError(
                f"The prompt's token ids must be 0 to {self._vocab_size - 1}.", param="messages"
            )
        if request.max_tokens < 0:
            raise InvalidRequestError("max_tokens must not be negative.", param="max_tokens")
        _check_sampling(request.sampling)
        if len(prompt) + request.max_tokens > self.context_length:
            raise RequestTooLargeForEngineError(
                f"{len(prompt)} prompt tokens and {request.max_tokens} new ones exceed the "
                f"{self.context_length} tokens that one sequence can have."
            )


def _check_sampling(sampling: SamplingParams) -> None:
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidRequestError("temperature must be a number from 0.", param="temperature")
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequestError("top_p must be above 0 and at most 1.", param="top_p")
    if not 0 <= sampling.min_p <= 1:
        raise InvalidRequestError("min_p must be from 0 to 1.", param="min_p")
    if sampling.top_k < 0:
        raise InvalidRequestError("top_k must not be negative; 0 is off.", param="top_k")
