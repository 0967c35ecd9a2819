"""The loops, on a clock that moves only when somebody waits."""

from __future__ import annotations

import asyncio
from itertools import repeat

import pytest

from stillhouse_loadgen.client.chat_client import Stopwatch
from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.load import Load, LoadBounds
from stillhouse_loadgen.report.summary import summarize
from stillhouse_loadgen.workload.distributions import Constant
from stillhouse_loadgen.workload.workload import (
    Extent,
    SyntheticShape,
    SyntheticWorkload,
    TextScale,
    within,
)

KEYS = KeyRing([LoadKey("a", "x")])


class ManualClock:
    """Moves when it is told to, by no less than a microsecond: who waits gets on."""

    def __init__(self):
        self.now_s = 0.0

    def now_ms(self):
        return round(self.now_s * 1000)

    def monotonic_s(self):
        return self.now_s

    def advance(self, seconds):
        self.now_s += max(1e-6, seconds)


def about(times_s):
    return pytest.approx(times_s, abs=1e-3)


class Server:
    """Answers a question with its number; the *stalled* one holds up everything for a second."""

    def __init__(self, clock, *, stalled=None, failing=None):
        self.clock = clock
        self.stalled = stalled
        self.failing = failing
        self.conversations = []

    async def complete(self, record, messages, key, watch):
        record.sent_s = watch.now_s()
        self.conversations.append([dict(message) for message in messages])
        if record.number == self.stalled:
            self.clock.advance(1.0)
        await asyncio.sleep(0)
        if record.number == self.failing:
            record.failure = "http_503"
        record.first_token_s = record.end_s = watch.now_s()
        record.completion_tokens = 1
        return f"answer {record.number}"


class Bench:
    """A load on a server, where waiting moves the clock."""

    def __init__(self, starts_s, *, extent=Extent(), bounds=None, server=None, **shape):  # noqa: B008  (frozen)
        self.clock = ManualClock()
        self.server = Server(self.clock, **(server or {}))
        workload = SyntheticWorkload(
            SyntheticShape(input_tokens=Constant(2), **shape), TextScale(), KEYS, seed=(0,)
        )
        conversations = within(extent, workload.conversations(starts_s))
        self.load = Load(
            conversations,
            self.server,
            Stopwatch(self.clock),
            LoadBounds(extent=extent, **(bounds or {})),
            sleep=self.sleep,
        )

    async def sleep(self, seconds):
        until_s = self.clock.now_s + seconds
        for _ in range(5):  # whoever is in flight goes on meanwhile, and may hold everybody up
            await asyncio.sleep(0)
        self.clock.advance(until_s - self.clock.now_s)

    async def run(self):
        await self.load.run()
        return self.load.records


async def test_requests_are_sent_when_they_are_due():
    """A server that keeps up changes nothing about when requests are sent."""
    records = await Bench(iter([0.5, 1.0, 4.0])).run()

    assert [0.5, 1.0, 4.0] == [record.intended_s for record in records]
    assert [0.5, 1.0, 4.0] == about([record.sent_s for record in records])


async def test_stall_is_not_hidden():
    """What is due during a stall of a second is sent late, and its wait counts as latency."""
    starts = [number / 10 for number in range(20)]
    records = await Bench(iter(starts), server={"stalled": 5}).run()
    summary = summarize(records)

    assert starts == [record.intended_s for record in records]
    assert about([1.5] * 10) == [record.sent_s for record in records[6:16]]
    # 0.9 s after it was due, down to nothing; by sent_s, each would have taken no time at all.
    assert about([number / 10 for number in range(9, -1, -1)]) == [
        record.ttft_s for record in records[6:16]
    ]
    assert 9 == summary.num_late
    assert about(1.0) == summary.ttft.max


async def test_turns_go_on_from_the_real_answers():
    """Each question stands after the answers that came, with a pause from the last one's end."""
    bench = Bench(iter([1.0]), turns=Constant(3), think_s=Constant(2), num_prefixes=1)
    records = await bench.run()
    first, second, third = bench.server.conversations

    assert [1.0, 3.0, 5.0] == about([record.intended_s for record in records])
    assert ["system", "user"] == [message["role"] for message in first]
    assert [*first, {"role": "assistant", "content": "answer 0"}] == second[:3]
    assert [*second, {"role": "assistant", "content": "answer 1"}] == third[:5]
    assert [0, 1, 2] == [record.turn for record in records]


async def test_conversation_ends_with_a_failure():
    """There is nothing to go on from; what is not asked any more is counted."""
    bench = Bench(iter([0.0]), turns=Constant(4), server={"failing": 1})
    records = await bench.run()

    assert (2, 2) == (len(records), bench.load.num_given_up)


async def test_turns_after_the_end_are_not_asked():
    """A conversation stops where its next question would be due after the run."""
    extent = Extent(duration_s=3.0)
    bench = Bench(iter([0.0]), extent=extent, turns=Constant(9), think_s=Constant(2))

    assert [0.0, 2.0] == about([record.intended_s for record in await bench.run()])


async def test_what_is_too_much_for_the_client_is_told():
    """Beyond the most in flight nothing is sent, and nothing is hidden."""
    bench = Bench(iter([0.0, 0.0, 0.0]), bounds={"max_in_flight": 2})

    async def sleep(seconds):
        bench.clock.advance(seconds)

    bench.load._sleep = sleep
    records = await bench.run()

    assert [None, None, "not_sent"] == [record.failure for record in records]
    assert (1, 3) == (summarize(records).num_not_sent, summarize(records).num_requests)


async def test_closed_loop_waits_for_its_answers():
    """So many at once, and the next one when one has ended."""
    extent = Extent(num_requests=12)
    bench = Bench(repeat(None), extent=extent, bounds={"concurrency": 3})
    in_flight = []
    ask = bench.server.complete

    async def watched(record, *rest):
        in_flight.append(bench.load.progress.num_in_flight)
        return await ask(record, *rest)

    bench.server.complete = watched
    records = await bench.run()

    assert (12, 3) == (len(records), max(in_flight))
    assert [record.sent_s for record in records] == [record.intended_s for record in records]


async def test_warmup_is_marked():
    """What is due before the end of the warm-up is sent, and not counted."""
    records = await Bench(iter([0.0, 1.0, 2.0]), bounds={"warmup_s": 1.5}).run()

    assert [True, True, False] == [record.is_warmup for record in records]
    assert 1 == summarize(records).num_requests


async def test_stopping_ends_what_is_in_flight():
    """A run that is interrupted returns with what there is."""
    bench = Bench(iter([0.0, 1.0, 100.0]))
    has_begun = asyncio.Event()

    async def never(record, *_):
        record.sent_s = 0.0
        has_begun.set()
        await asyncio.Event().wait()

    bench.server.complete = never
    running = asyncio.create_task(bench.run())
    await has_begun.wait()
    bench.load.stop()
    records = await running

    assert {"interrupted"} == {record.failure for record in records}
    assert 0 == bench.load.progress.num_in_flight
