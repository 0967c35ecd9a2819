from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.billing.outcome import Outcome
from stillhouse.errors import EngineCrashedError
from stillhouse.serving.event_buffer import MAX_BYTES, EventBuffer
from stillhouse.types.events import Finish, FinishReason, TextDelta, ToolCallDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.usage import TokenUsage
from tests.unit.serving.conftest import TARIFF

FINISH = Finish(FinishReason.STOP, TokenUsage(), 0)
ONE_EVENT = 1 << 10  # bytes; more than any here takes
LONG = 2000  # tokens, whose events are more than may wait


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


async def all_of(buffer):
    return [event async for batch in buffer.batches() for event in batch]


async def settle_down():
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_waits_comes_as_one_batch():
    """Events that were events before anybody asked are taken together, and the end behind them."""
    buffer = EventBuffer()
    events = [TextDelta(content=text) for text in "abc"]
    for event in events:
        buffer.emit(event)
    buffer.close()

    assert [events] == [batch async for batch in buffer.batches()]


async def test_the_first_end_counts():
    """What is events or ended behind an end is not heard."""
    buffer = EventBuffer()
    buffer.emit(FINISH)
    buffer.close()
    buffer.emit(TextDelta(content="late"))
    buffer.close(EngineCrashedError("late"))

    assert [FINISH] == await all_of(buffer)


async def test_an_error_comes_behind_the_last_event():
    """What was events before a failure is still read."""
    buffer = EventBuffer()
    buffer.emit(FINISH)
    buffer.close(EngineCrashedError("It died."))
    batches = buffer.batches()

    assert [FINISH] == await anext(batches)
    with pytest.raises(EngineCrashedError, match="It died"):
        await anext(batches)


@pytest.mark.parametrize(
    "event",
    [
        TextDelta(content="x" * 500),
        TextDelta(reasoning="x" * 500),
        TextDelta(content="\N{GRINNING FACE}" * 125),
        TextDelta(tool_calls=(ToolCallDelta(0, "call_1", "look", "x" * 125),)),
        TextDelta(logprobs=(TokenLogprobs(Logprob(1, b"x", -1), (Logprob(1, b"x", -1),) * 9),)),
    ],
)
async def test_everything_in_an_event_counts(event):
    """Text, thoughts, calls and log probabilities all take their place."""
    small, large = EventBuffer(), EventBuffer()
    small.emit(TextDelta(content="x"))
    large.emit(event)

    assert small.num_bytes + 400 < large.num_bytes


async def test_there_is_room_when_a_batch_has_been_taken():
    """Not when it is handed out: until its reader asks for the next one, it still waits."""
    buffer = EventBuffer(max_bytes=1)
    buffer.emit(FINISH)
    batches = buffer.batches()
    await anext(batches)
    assert buffer.is_full
    room = asyncio.create_task(buffer.wait_for_space())
    await settle_down()
    assert not room.done()
    following = asyncio.create_task(anext(batches))
    await room

    assert (False, 0) == (buffer.is_full, buffer.num_bytes)
    buffer.emit(FINISH)
    assert [FINISH] == await following


@given(st.data())
async def test_any_pace_reads_the_same(data):
    """However telling and reading alternate, every event comes once and in order."""
    num_events = data.draw(st.integers(0, 30))
    events = [TextDelta(content=str(number)) for number in range(num_events)]
    pauses = data.draw(st.lists(st.booleans(), min_size=num_events, max_size=num_events))
    buffer = EventBuffer(max_bytes=data.draw(st.integers(1, 2000)))

    async def tell():
        for event, has_pause in zip(events, pauses, strict=True):
            await buffer.wait_for_space()
            assert not buffer.is_full
            buffer.emit(event)
            if has_pause:
                await asyncio.sleep(0)
        buffer.close()

    teller = asyncio.create_task(tell())
    assert events == await all_of(buffer)
    await teller


async def test_what_waits_for_a_reader_that_stands_still_is_bounded(serving):
    """What the engine has made stays tokens, until somebody reads; then all of it comes."""
    serving.engine.context_length = 1 << 20
    completion = await serving.open(max_tokens=LONG)
    await settle_down()
    waiting = completion._events
    seen = waiting.num_bytes

    assert MAX_BYTES <= seen < MAX_BYTES + ONE_EVENT
    assert LONG == completion.usage.completion_tokens
    most = 0
    num_tokens = 0
    async for batch in completion.batches():
        most = max(most, waiting.num_bytes)
        num_tokens += sum(isinstance(event, TextDelta) for event in batch)
    assert most < MAX_BYTES + ONE_EVENT
    assert LONG == num_tokens
    assert [("SETTLED", "length", LONG)] == await serving.rows()


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.SLOW_CLIENT, "slow_client"),
        (Outcome.DRAINED, "length"),
        (Outcome.CANCELLED, "length"),
    ],
)
async def test_who_is_waited_for_can_be_stopped(serving, outcome, said):
    """The engine has ended long ago, and no reader is waited for; what was made is charged."""
    completion = await serving.open(max_tokens=LONG)
    await settle_down()
    completion.stop(outcome)
    async with asyncio.timeout(30):
        await serving.completions.drain(grace_s=30)
    *_, finish = [event async for event in completion.events()]

    assert [("SETTLED", said, LONG)] == await serving.rows()
    assert TARIFF.cost_picousd(completion.usage) == finish.cost_picousd


async def test_a_reader_that_stands_still_keeps_nobody_waiting(serving):
    """The engine has room for the next one as soon as it is done, whoever reads or does not."""
    serving.engine.max_sequences = 1
    unread = await serving.open(max_tokens=LONG)
    await settle_down()
    async with asyncio.timeout(30):
        other = [event async for event in (await serving.open(max_tokens=1)).events()]
    assert unread._events.is_full
    unread.stop(Outcome.CLIENT_DISCONNECT)

    assert isinstance(other[-1], Finish)


async def test_a_reader_slower_than_its_engine_was_slow(serving):
    """Also where the engine had made everything before the connection was cut."""
    serving.engine.cancel = lambda _request_id: None  # there is nothing left to cancel
    completion = await serving.open(max_tokens=LONG)
    await settle_down()
    completion.stop(Outcome.SLOW_CLIENT)
    async for _ in completion.batches():
        pass

    assert [("SETTLED", "slow_client", LONG)] == await serving.rows()
