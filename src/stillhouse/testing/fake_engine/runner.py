"""Runs the fake engine: sequences in, words out, each at its due time."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable
from typing import NoReturn

from stillhouse.clock import Clock
from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateRequest, GenerateStep
from stillhouse.engines.capabilities import Capabilities
from stillhouse.engines.request_check import check_request
from stillhouse.engines.worker.loop import SequenceSteps
from stillhouse.errors import InvalidRequestError
from stillhouse.testing.fake_engine.prefix_cache import PrefixCache
from stillhouse.testing.fake_engine.sequence import FakeSequence
from stillhouse.testing.fake_engine.settings import FakeSettings, FaultKind
from stillhouse.testing.fake_engine.witness import WitnessLog

CRASH_EXIT_CODE = 70


class FakeRunner:
    """
    Generates for many sequences at once; one thread calls all of it.

    A running sequence owns the blocks of its prompt and of all it may generate, so nothing is ever
    preempted. Its methods are the worker loop's interface over one state; a split would pass that
    state around.

    Args:
        vocab_size: Token ids of prompts are below it.
        context_length: Most tokens of one sequence.
        witness: Records every token and every end before the gateway receives it.
        clock: Decides when tokens are due.

    """

    def __init__(
        self,
        settings: FakeSettings,
        *,
        vocab_size: int,
        context_length: int,
        witness: WitnessLog,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.wake: Callable[[], None] = _nobody
        self.max_sequences = settings.slots
        self._vocab_size = vocab_size
        self.context_length = context_length
        self._witness = witness
        self._cache = PrefixCache(num_blocks=settings.num_blocks, block_size=settings.block_size)
        self._sequences: dict[int, FakeSequence] = {}
        self._waiting: list[tuple[tuple[int, int], FakeSequence]] = []
        self._running: dict[int, FakeSequence] = {}
        self._num_free_blocks = settings.num_blocks
        self._num_steps = 0

    @property
    def capabilities(self) -> Capabilities:
        """The supported features, as its settings limit them."""
        return self._settings.capabilities

    @property
    def block_size(self) -> int:
        """Tokens per block of the simulated KV cache."""
        return self._settings.block_size

    @property
    def block_bytes(self) -> int:
        """Zero: the simulated blocks hold no data."""
        return 0

    @property
    def idle_s(self) -> float | None:
        """Seconds until the next token is due; None means never if no request arrives."""
        due_s = min((sequence.due_s for sequence in self._running.values()), default=None)
        return None if due_s is None else max(0.0, due_s - self._clock.monotonic_s())

    @property
    def health(self) -> EngineHealth:
        """The engine's current load and counters."""
        return EngineHealth(
            num_running=len(self._running),
            num_waiting=len(self._sequences) - len(self._running),
            num_free_blocks=self._num_free_blocks,
            num_blocks=self._settings.num_blocks,
            num_steps=self._num_steps,
        )

    def close(self) -> None:
        """Does nothing: the witness has recorded every step before it was sent."""

    def prepare(self, sequence_id: int, request: GenerateRequest) -> None:
        """Does nothing: words need no preparation."""

    def take_compile_times(self) -> list[tuple[str, float]]:
        """Returns nothing: words have no grammar."""
        return []

    def add(self, sequence_id: int, request: GenerateRequest) -> None:
        """
        Takes a request; its steps come under *sequence_id*, which must be higher than all before.

        Raises:
            InvalidRequestError: A value cannot be honoured.
            RequestTooLargeForEngineError: It can never fit.

        """
        self._check(request)
        fault = self._settings.fault_of(request.sampling.seed)
        sequence = FakeSequence(sequence_id, request, self._settings.word_ids, fault)
        self._sequences[sequence_id] = sequence
        heapq.heappush(self._waiting, (sequence.importance, sequence))
        self._admit_waiting(self._clock.monotonic_s())

    def cancel(self, sequence_id: int) -> SequenceSteps:
        """Ends a sequence and returns its last step, or nothing if it has ended before."""
        sequence = self._sequences.get(sequence_id)
        if sequence is None or sequence.meets(FaultKind.IGNORE_CANCEL):
            return []
        sequence.finish = EngineFinish.CANCELLED
        steps: SequenceSteps = [self._report(sequence, ())]
        self._witness.sync()
        self._admit_waiting(self._clock.monotonic_s())
        return steps

    def step(self, receive: Callable[[], None]) -> SequenceSteps:  # noqa: ARG002 (a step takes no time in which a message could come)
        """Makes the next token of every due sequence, and records it in the witness first."""
        now_s = self._clock.monotonic_s()
        due = [sequence for sequence in self._running.values() if sequence.due_s <= now_s]
        if not due:
            return []
        self._num_steps += 1
        steps: SequenceSteps = [
            self._refuse(sequence) if sequence.must_be_refused else self._advance(sequence, now_s)
            for sequence in due
        ]
        self._witness.sync()
        for sequence in due:
            _fail_if_it_must(sequence)
        self._admit_waiting(now_s)
        return steps

    def _advance(self, sequence: FakeSequence, now_s: float) -> tuple[int, GenerateStep]:
        # Paced from when the token was due, so that a late wake-up does not add up; but what was
        # missed is not caught up on in a burst, which no engine could.
        sequence.due_s = max(sequence.due_s + self._settings.token_interval_s, now_s)
        if sequence.request.max_tokens == 0:
            sequence.finish = EngineFinish.LENGTH
            return self._report(sequence, ())
        index = len(sequence.token_ids)
        token_id = sequence.make_token()
        self._witness.made(sequence.request.request_id, index=index, token=token_id)
        return self._report(sequence, (token_id,))

    def _refuse(self, sequence: FakeSequence) -> tuple[int, InvalidRequestError]:
        sequence.finish = EngineFinish.CANCELLED
        self._remove(sequence)
        return sequence.sequence_id, InvalidRequestError("The fake engine was asked to refuse.")

    def _report(self, sequence: FakeSequence, new: tuple[int, ...]) -> tuple[int, GenerateStep]:
        """Returns the step to be sent, and removes the sequence if the step is its last."""
        if sequence.finish is not None:
            self._remove(sequence)
        logprobs = sequence.logprobs_of_last() if new else ()
        step = GenerateStep(new, sequence.usage, sequence.finish, logprobs)
        return sequence.sequence_id, step

    def _remove(self, sequence: FakeSequence) -> None:
        assert sequence.finish is not None
        request, num_tokens = sequence.request, len(sequence.token_ids)
        del self._sequences[sequence.sequence_id]
        if self._running.pop(sequence.sequence_id, None) is None:
            self._waiting.remove((sequence.importance, sequence))
            heapq.heapify(self._waiting)
        else:
            self._num_free_blocks += self._num_blocks_for(request)
            # The last token was made but never computed upon.
            computed = [*request.prompt_token_ids, *sequence.token_ids[:-1]]
            self._cache.remember(request, computed)
        self._witness.ended(request.request_id, sequence.finish, num_tokens=num_tokens)

    def _admit_waiting(self, now_s: float) -> None:
        """Starts waiting sequences, the most important first, while slots and blocks are free."""
        while self._waiting and len(self._running) < self._settings.slots:
            sequence = self._waiting[0][1]
            request = sequence.request
            num_blocks = self._num_blocks_for(request)
            if num_blocks > self._num_free_blocks:
                return
            heapq.heappop(self._waiting)
            self._num_free_blocks -= num_blocks
            sequence.num_cached = self._cache.num_cached(request)
            self._cache.remember(request, request.prompt_token_ids)
            sequence.due_s = now_s + self._settings.first_token_s
            self._running[sequence.sequence_id] = sequence

    def _num_blocks_for(self, request: GenerateRequest) -> int:
        num_tokens = len(request.prompt_token_ids) + request.max_tokens
        return -(-num_tokens // self._settings.block_size)

    def _check(self, request: GenerateRequest) -> None:
        check_request(
            request,
            self.capabilities,
            vocab_size=self._vocab_size,
            context_length=self.context_length,
        )


def _fail_if_it_must(sequence: FakeSequence) -> None:
    if sequence.meets(FaultKind.CRASH):
        os._exit(CRASH_EXIT_CODE)
    if sequence.meets(FaultKind.HANG):
        _hang()


def _hang() -> NoReturn:
    while True:
        threading.Event().wait()


def _nobody() -> None:
    """Does nothing: the fake engine has no work that the loop does not know of."""
