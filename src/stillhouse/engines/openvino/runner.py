"""The engine itself: sequences in, tokens out, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateStep
from stillhouse.engines.openvino.grammar import Grammars
from stillhouse.engines.openvino.kv_blocks import KVBlocks
from stillhouse.engines.openvino.logit_rules import make_logit_rules
from stillhouse.engines.openvino.logprobs import step_logprobs
from stillhouse.engines.openvino.sampler import make_generator, sample
from stillhouse.engines.openvino.scheduler import Scheduler
from stillhouse.engines.openvino.sequence import Sequence
from stillhouse.engines.request_check import check_request
from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llguidance import LLTokenizer
    from numpy import float32
    from numpy.typing import NDArray

    from stillhouse.chat import StepLogprobs
    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.decoder import Decoder
    from stillhouse.engines.openvino.grammar import GrammarMatcher
    from stillhouse.engines.openvino.scheduler import Slice
    from stillhouse.engines.openvino.settings import EngineSettings
    from stillhouse.engines.worker_loop import SequenceSteps


class Runner:
    """
    Generates for many sequences at once; one thread calls all of it but `prepare`.

    Args:
        decoder: With its KV cache allocated.
        vocab_size: Token ids of prompts are below it.
        context_length: Most tokens of one sequence.
        vocabulary: What grammars are matched with; None where there is none.

    """

    def __init__(
        self,
        decoder: Decoder,
        settings: EngineSettings,
        *,
        vocab_size: int,
        context_length: int,
        vocabulary: LLTokenizer | None,
    ) -> None:
        self._decoder = decoder
        self._vocab_size = vocab_size
        self._grammars = Grammars(vocabulary)
        self.max_sequences = settings.max_sequences
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
        self._prepared: dict[int, GrammarMatcher | InvalidRequestError] = {}
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
    def idle_s(self) -> float | None:
        """So long there is nothing to do unless a request comes; None is for ever."""
        return 0.0 if self._sequences else None

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

    def prepare(self, sequence_id: int, request: GenerateRequest) -> None:
        """Compile a request's grammar ahead of `add`, on a thread that holds up no sequence."""
        try:
            grammar = self._grammars.matcher_of(request)
        except InvalidRequestError as error:
            self._prepared[sequence_id] = error
        else:
            if grammar is not None:
                self._prepared[sequence_id] = grammar

    def add(self, sequence_id: int, request: GenerateRequest) -> None:
        """
        Take a request; its steps come under *sequence_id*, which must be higher than all before.

        Raises:
            InvalidRequestError: A value cannot be honoured.
            RequestTooLargeForEngineError: It can never fit.

        """
        grammar = self._prepared.pop(sequence_id, None)
        self._check(request)
        if isinstance(grammar, InvalidRequestError):
            raise grammar
        grammar = grammar or self._grammars.matcher_of(request)
        sequence = Sequence(
            sequence_id,
            request,
            block_size=self._decoder.block_size,
            generator=make_generator(request.sampling),
            logit_rules=make_logit_rules(request, grammar),
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
        Compute the next batch and return what it added; nothing where there is no sequence.

        Args:
            receive: Called when the batch is computed and nothing of it is told yet: a sequence
                cancelled there gets no further token.

        """
        if not self._sequences:
            return []
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

    def _sample(
        self, sequence: Sequence, logits: NDArray[float32]
    ) -> tuple[int, GenerateStep | InvalidRequestError]:
        if sequence.request.max_tokens == 0:
            sequence.finish = EngineFinish.LENGTH
            return self._report(sequence, ())
        try:
            token_id = _draw(sequence, logits)
        except InvalidRequestError as error:
            self._forget(sequence)
            return sequence.sequence_id, error
        num_top = sequence.request.top_logprobs
        logprobs = () if num_top is None else (step_logprobs(logits, token_id, num_top),)
        return self._report(sequence, (token_id,), logprobs)

    def _report(
        self, sequence: Sequence, new: tuple[int, ...], logprobs: tuple[StepLogprobs, ...] = ()
    ) -> tuple[int, GenerateStep]:
        """Return the step to be told, and forget the sequence if it is the last one."""
        if sequence.finish is not None:
            self._forget(sequence)
        step = GenerateStep(new, sequence.usage, sequence.finish, logprobs)
        return sequence.sequence_id, step

    def _forget(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        del self._sequences[sequence.sequence_id]

    def _check(self, request: GenerateRequest) -> None:
        check_request(request, vocab_size=self._vocab_size, context_length=self.context_length)


def _draw(sequence: Sequence, logits: NDArray[float32]) -> int:
    """Draw the sequence's next token, and take note of it."""
    rules = sequence.logit_rules
    if rules is None:
        token_id = sample(logits, sequence.request.sampling, sequence.generator)
    else:
        token_id = sample(rules.apply(logits), sequence.request.sampling, sequence.generator)
        rules.advance(token_id)
    sequence.append(token_id)
    return token_id
