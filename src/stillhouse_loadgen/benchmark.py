"""Runs a benchmark: one load after the other against one server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import repeat
from typing import TypeAlias

from stillhouse_loadgen.client.chat_client import ChatClient, Stopwatch, Target, open_client
from stillhouse_loadgen.client.load_key import KeyRing
from stillhouse_loadgen.clock import Clock
from stillhouse_loadgen.errors import ArgumentError, TargetError
from stillhouse_loadgen.load import Load, LoadBounds
from stillhouse_loadgen.record import Failure, RequestRecord
from stillhouse_loadgen.report.document import LoadShape, Run, iso_time
from stillhouse_loadgen.report.goodput import GoodputTarget
from stillhouse_loadgen.report.summary import summarize
from stillhouse_loadgen.workload.arrivals import Arrivals, arrival_times
from stillhouse_loadgen.workload.mooncake import TraceReplay, TraceRequest
from stillhouse_loadgen.workload.text import rng_of, text_of, words_from
from stillhouse_loadgen.workload.workload import (
    Conversation,
    Extent,
    SyntheticShape,
    SyntheticWorkload,
    TextScale,
    within,
)

#: Shows the progress of a run in the terminal.
ProgressDisplay: TypeAlias = Callable[
    [LoadShape, Load, Stopwatch], AbstractAsyncContextManager[None]
]

_ARRIVALS, _TEXTS, _SCALE = 10, 11, 12  # the purpose of a random generator
_SCALE_WORDS = (50, 250)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The parameters of a benchmark.

    Args:
        content: The requests: synthetic, or from a trace.
        loads: One run each; sweeps have several.
        warmup_s: Requests due before this are sent, and not counted.
        tokens_per_word: The ratio of the server's tokenizer; None measures it with two short
            requests.

    """

    target: Target
    keys: KeyRing
    content: SyntheticShape | list[TraceRequest]
    loads: tuple[LoadShape, ...]
    extent: Extent
    warmup_s: float
    max_in_flight: int
    seed: int
    targets: tuple[GoodputTarget, ...]
    tokens_per_word: float | None


class Benchmark:
    """
    Runs a plan.

    Attributes:
        runs: The finished runs, and the interrupted one.

    """

    def __init__(self, plan: Plan, clock: Clock, display: ProgressDisplay) -> None:
        self._plan = plan
        self._clock = clock
        self._display = display
        self._load: Load | None = None
        self._is_stopped = False
        self.scale = TextScale(plan.tokens_per_word or 1.0)
        self.runs: list[Run] = []

    async def run(self) -> None:
        """
        Runs every load.

        Raises:
            TargetError: The server does not answer the requests that measure its tokenizer.

        """
        async with open_client(self._plan.target) as client:
            if self._plan.tokens_per_word is None:
                self.scale = await self._measured_scale(client)
            for number, shape in enumerate(self._plan.loads):
                if not self._is_stopped:
                    self.runs.append(await self._run(client, number, shape))

    def stop(self) -> None:
        """Ends the current run as it stands, and starts no other."""
        self._is_stopped = True
        if self._load is not None:
            self._load.stop()

    async def _run(self, client: ChatClient, number: int, shape: LoadShape) -> Run:
        plan = self._plan
        started_ms = self._clock.now_ms()
        watch = Stopwatch(self._clock)
        bounds = LoadBounds(
            extent=plan.extent,
            concurrency=shape.concurrency,
            max_in_flight=plan.max_in_flight,
            warmup_s=plan.warmup_s,
        )
        conversations = within(plan.extent, self._conversations(number, shape))
        self._load = load = Load(conversations, client, watch, bounds)
        async with self._display(shape, load, watch):
            await load.run()
        return Run(
            load=shape,
            started_at=iso_time(started_ms),
            is_interrupted=self._is_stopped,
            num_given_up=load.num_given_up,
            summary=summarize(load.records, plan.targets),
            records=load.records,
        )

    def _conversations(self, number: int, shape: LoadShape) -> Iterator[Conversation]:
        plan = self._plan
        texts = (plan.seed, number, _TEXTS)  # each run has its own, so that none is cached
        if not isinstance(plan.content, SyntheticShape):
            assert shape.speed is not None
            replay = TraceReplay(plan.content, self.scale, plan.keys, shape.speed, texts)
            return replay.conversations()
        workload = SyntheticWorkload(plan.content, self.scale, plan.keys, seed=texts)
        if shape.rate is None:
            return workload.conversations(repeat(None))
        rng = rng_of(plan.seed, number, _ARRIVALS)
        return workload.conversations(
            arrival_times(Arrivals(shape.arrivals or Arrivals.POISSON), shape.rate, rng)
        )

    async def _measured_scale(self, client: ChatClient) -> TextScale:
        few, many = _SCALE_WORDS
        few_tokens = await self._tokens_of(client, few)
        many_tokens = await self._tokens_of(client, many)
        per_word = (many_tokens - few_tokens) / (many - few)
        if per_word <= 0:
            raise TargetError(
                f"{many} words are {many_tokens} tokens to the server, and {few} are {few_tokens}; "
                f"give --tokens-per-word"
            )
        return TextScale(per_word, max(0.0, few_tokens - few * per_word))

    async def _tokens_of(self, client: ChatClient, num_words: int) -> int:
        words = words_from(rng_of(self._plan.seed, num_words, _SCALE), num_words)
        record = RequestRecord(
            number=0, conversation=0, turn=0, key="", max_tokens=1, intended_s=0.0
        )
        message = {"role": "user", "content": text_of(words)}
        await client.complete(record, [message], self._plan.keys.keys[0], Stopwatch(self._clock))
        if record.failure is not None:
            raise _first_failure(self._plan.target, record)
        if record.prompt_tokens is None:
            raise TargetError(
                "the server does not say how many tokens a prompt has; give --tokens-per-word"
            )
        return record.prompt_tokens


def _first_failure(target: Target, record: RequestRecord) -> TargetError | ArgumentError:
    if record.failure == Failure.CONNECT:
        return TargetError(f"{target.chat_url} does not answer: {record.message}")
    if record.status is not None and 400 <= record.status < 500:
        return ArgumentError(f"{target.chat_url} refuses: {record.status}: {record.message}")
    return TargetError(f"{target.chat_url} fails: {record.failure}: {record.message}")
