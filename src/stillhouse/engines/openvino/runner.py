"""Runs the embedded engine: sequences in, tokens out, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.clock import SystemClock
from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateStep
from stillhouse.engines.capabilities import ALL_CONSTRAINTS, Capabilities
from stillhouse.engines.openvino.kv.blocks import KVBlocks
from stillhouse.engines.openvino.kv.prefix_cache import PrefixCache
from stillhouse.engines.openvino.sampling.grammar import Grammars
from stillhouse.engines.openvino.sampling.logit_rules import make_logit_rules
from stillhouse.engines.openvino.sampling.sampler import make_generator
from stillhouse.engines.openvino.scheduling.prompt_budget import PromptBudget, unbounded
from stillhouse.engines.openvino.scheduling.scheduler import BatchLimits, Scheduler
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.speculation.acceptance import SamplerOutput, sample_tokens
from stillhouse.engines.openvino.speculation.speculation import Speculation
from stillhouse.engines.request_check import MAX_TOP_LOGPROBS, check_request
from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llguidance import LLTokenizer
    from numpy import float32
    from numpy.typing import NDArray

    from stillhouse.engines.base import GenerateRequest
    from stillhouse.engines.openvino.graph.decoder import Decoder
    from stillhouse.engines.openvino.kv.disk_tier import DiskTier
    from stillhouse.engines.openvino.sampling.grammar import GrammarMatcher
    from stillhouse.engines.openvino.scheduling.scheduler import Slice
    from stillhouse.engines.openvino.settings import EngineSettings
    from stillhouse.engines.worker.loop import SequenceSteps


#: Interval between two checks for a grammar thread that does not return.
_COMPILE_CHECK_S = 1.0
CLOSE_TIMEOUT_S = 3.0  # a supervisor kills a worker that takes longer than five


class Runner:
    """
    Generates for many sequences at once; one thread calls all but `prepare` and `close`.

    Its methods are the worker loop's interface and the steps of one batch over one state; a split
    would pass that state around.

    Args:
        decoder: With its KV cache allocated.
        vocab_size: Token ids of prompts are below it.
        context_length: Most tokens of one sequence.
        vocabulary: The token table for grammars; None refuses grammars.
        disk_tier: Keeps prefixes on disk; None keeps none.

    """

    def __init__(  # noqa: PLR0913 (what an engine consists of)
        self,
        decoder: Decoder,
        settings: EngineSettings,
        *,
        vocab_size: int,
        context_length: int,
        vocabulary: LLTokenizer | None,
        disk_tier: DiskTier | None = None,
    ) -> None:
        self._decoder = decoder
        self._disk_tier = disk_tier
        self._vocab_size = vocab_size
        self._grammars = Grammars(vocabulary, SystemClock())
        self.max_sequences = settings.max_sequences
        self.context_length = context_length
        self.capabilities = Capabilities(
            salted_prefix_cache=True,
            public_prefixes=True,
            priority=True,
            usage_at_abort=True,
            seed=True,
            penalties=True,
            logit_bias=True,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            constraints=frozenset() if vocabulary is None else ALL_CONSTRAINTS,
        )
        self._blocks = KVBlocks(decoder.num_blocks)
        self._speculation = Speculation(
            decoder.step_times, max_draft_tokens=settings.max_draft_tokens
        )
        self._scheduler = Scheduler(
            self._blocks,
            PrefixCache(self._blocks, decoder, block_size=decoder.block_size, disk_tier=disk_tier),
            BatchLimits(
                max_sequences=settings.max_sequences,
                max_tokens=settings.max_batch_tokens,
                prompt_budget=_prompt_budget(settings, decoder),
                max_chunk_tokens=settings.prefill_chunk_tokens,
            ),
            block_size=decoder.block_size,
            speculation=self._speculation,
        )
        self._sequences: dict[int, Sequence] = {}
        self._awaiting_grammar: dict[int, Sequence] = {}
        self._num_steps = 0

    @property
    def block_size(self) -> int:
        """Tokens per block of the KV cache."""
        return self._decoder.block_size

    @property
    def block_bytes(self) -> int:
        """Bytes per block of the KV cache."""
        return self._decoder.block_bytes

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._sequences)

    @property
    def idle_s(self) -> float | None:
        """Seconds until the next work if no request arrives; None means never."""
        if len(self._sequences) > len(self._awaiting_grammar):
            return 0.0
        return _COMPILE_CHECK_S if self._awaiting_grammar else None

    @property
    def health(self) -> EngineHealth:
        """Returns the engine's current load and counters."""
        return EngineHealth(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting + len(self._awaiting_grammar),
            num_free_blocks=self._blocks.num_free,
            num_blocks=self._blocks.num_blocks,
            num_steps=self._num_steps,
        )

    def close(self) -> None:
        """Writes pending blocks to disk; may be called on another thread."""
        if self._disk_tier is not None:
            self._disk_tier.close(CLOSE_TIMEOUT_S)

    @property
    def wake(self) -> Callable[[], None]:
        """The callback that runs, on another thread, when a grammar is compiled."""
        return self._grammars.thread.wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._grammars.thread.wake = wake

    def take_compile_times(self) -> list[tuple[str, float]]:
        """Returns the seconds spent on grammars since the last time, by cache salt."""
        return self._grammars.thread.take_times()

    def prepare(self, sequence_id: int, request: GenerateRequest) -> None:
        """Has a request's grammar compiled ahead of `add`; may be called on another thread."""
        self._grammars.want(sequence_id, request)

    def add(self, sequence_id: int, request: GenerateRequest) -> None:
        """
        Takes a request; its steps come under *sequence_id*, which must be higher than all before.

        It runs once its grammar is compiled, and blocks no other sequence until then.

        Raises:
            InvalidRequestError: A value cannot be honoured.
            RequestTooLargeForEngineError: It can never fit.

        """
        try:
            self._check(request)
            grammar = self._grammar_of(sequence_id, request)
        except InvalidRequestError:
            self._grammars.thread.forget(sequence_id)
            raise
        sequence = Sequence(
            sequence_id,
            request,
            block_size=self._decoder.block_size,
            generator=make_generator(request.sampling),
            logit_rules=make_logit_rules(request, grammar),
        )
        sequence.draft_record = self._speculation.new_record()
        self._sequences[sequence_id] = sequence
        if grammar is None and request.grammar is not None:
            self._awaiting_grammar[sequence_id] = sequence
        else:
            self._scheduler.add(sequence)

    def _grammar_of(self, sequence_id: int, request: GenerateRequest) -> GrammarMatcher | None:
        if request.grammar is None:
            return None
        self._grammars.want(sequence_id, request)
        return self._grammars.take(sequence_id, request)

    def cancel(self, sequence_id: int) -> SequenceSteps:
        """Ends a sequence and returns its last step, or nothing if it has ended before."""
        sequence = self._sequences.get(sequence_id)
        if sequence is None:
            return []
        sequence.finish = EngineFinish.CANCELLED
        return [self._report(sequence, SamplerOutput())]

    def step(self, receive: Callable[[], None]) -> SequenceSteps:
        """
        Computes the next batch and returns its steps; none if there is no sequence.

        Args:
            receive: Called after the batch is computed and before its steps are returned: a
                sequence cancelled there gets no further token.

        """
        refused = self._start_compiled() if self._awaiting_grammar else []
        if len(self._sequences) == len(self._awaiting_grammar):
            return refused
        batch = self._scheduler.schedule()
        if not batch and self._scheduler.is_restoring:
            return refused
        assert batch, "There is work, but none of it can advance. This is a bug."
        logits = self._decoder.run(batch)
        receive()
        return refused + self._publish(batch, logits)

    def _start_compiled(self) -> SequenceSteps:
        """Starts sequences whose grammars are compiled; returns those whose grammars failed."""
        refused: SequenceSteps = []
        for sequence in list(self._awaiting_grammar.values()):
            try:
                grammar = self._grammars.take(sequence.sequence_id, sequence.request)
            except InvalidRequestError as error:
                self._forget(sequence)
                refused.append((sequence.sequence_id, error))
                continue
            if grammar is not None:
                del self._awaiting_grammar[sequence.sequence_id]
                if sequence.logit_rules is None:
                    sequence.logit_rules = make_logit_rules(sequence.request, grammar)
                else:
                    sequence.logit_rules.grammar = grammar
                self._scheduler.add(sequence)
        return refused

    def _publish(self, batch: list[Slice], logits: NDArray[float32]) -> SequenceSteps:
        self._num_steps += 1
        steps: SequenceSteps = []
        first_row = 0
        for part in batch:
            rows = logits[first_row : first_row + part.num_sampled_rows]
            first_row += part.num_sampled_rows
            if part.sequence.finish is not None:
                continue
            if part.is_sampled:
                steps += self._sample(part, rows)
            else:
                self._scheduler.advance(part)
        return steps

    def _sample(self, part: Slice, rows: NDArray[float32]) -> SequenceSteps:
        sequence = part.sequence
        output = SamplerOutput()
        if sequence.request.max_tokens == 0:
            sequence.finish = EngineFinish.LENGTH
        else:
            output = sample_tokens(sequence, rows, part.draft)
        self._scheduler.advance(part, num_accepted=output.num_accepted)
        self._speculation.record(sequence, part.draft, num_accepted=output.num_accepted)
        if output.error is None:
            return [self._report(sequence, output)]
        steps: SequenceSteps = [self._report(sequence, output)] if output.token_ids else []
        if self._has_another_try(sequence):
            return steps
        self._forget(sequence)
        return [*steps, (sequence.sequence_id, output.error)]

    def _has_another_try(self, sequence: Sequence) -> bool:
        """
        Postpones a sequence whose shared grammar failed until it has a grammar of its own.

        The output is unchanged: no token was sampled at the position where the grammar failed.
        """
        grammar = None if sequence.logit_rules is None else sequence.logit_rules.grammar
        if grammar is None or not grammar.is_shared:
            return False
        first = len(sequence.token_ids) - grammar.num_matched
        self._scheduler.put_off(sequence)
        self._awaiting_grammar[sequence.sequence_id] = sequence
        self._grammars.want_again(
            sequence.sequence_id, sequence.request, sequence.token_ids[first:]
        )
        return True

    def _report(self, sequence: Sequence, output: SamplerOutput) -> tuple[int, GenerateStep]:
        """Returns the step to be sent, and removes the sequence if the step is its last."""
        if sequence.finish is not None:
            self._forget(sequence)
        step = GenerateStep(
            tuple(output.token_ids), sequence.usage, sequence.finish, tuple(output.logprobs)
        )
        return sequence.sequence_id, step

    def _forget(self, sequence: Sequence) -> None:
        if self._awaiting_grammar.pop(sequence.sequence_id, None) is None:
            self._scheduler.remove(sequence)
        else:
            self._grammars.thread.forget(sequence.sequence_id)
        del self._sequences[sequence.sequence_id]

    def _check(self, request: GenerateRequest) -> None:
        check_request(
            request,
            self.capabilities,
            vocab_size=self._vocab_size,
            context_length=self.context_length,
        )


def _prompt_budget(settings: EngineSettings, decoder: Decoder) -> Callable[[int, int], int]:
    if settings.prefill_chunk_tokens is not None:
        return unbounded
    return PromptBudget(
        decoder.step_times,
        target_pause_s=settings.target_pause_s,
        block_size=decoder.block_size,
    )
