"""Messages of a worker, however the socket cuts them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.engines.base import EngineFinish, GenerateStep
from stillhouse.engines.worker.frames import Loading, Steps, ToGateway, encode
from stillhouse.engines.worker.process import FrameReader
from stillhouse.engines.worker.streams import Stream
from stillhouse.errors import EngineCrashedError
from stillhouse.types.usage import TokenUsage
from stillhouse.workers.framing import FrameError

MESSAGES: list[ToGateway] = [
    Loading("thinking", 1, 2),
    Steps([(1, GenerateStep((446,), TokenUsage(2, 0, 1)))]),
    Steps([(n, GenerateStep((n,), TokenUsage(2, 0, 2), EngineFinish.STOP)) for n in range(50)]),
    Loading("", 0, 0),
]
FRAMES = b"".join(map(encode, MESSAGES))
STEP = GenerateStep((446,), TokenUsage(2, 0, 1))


@given(st.lists(st.integers(0, len(FRAMES))))
def test_messages_come_however_they_are_cut(cuts: list[int]) -> None:
    """The same messages come in the same order, each as soon as it is whole."""

    async def received() -> list[ToGateway]:
        reader, messages = FrameReader(), []
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(FRAMES)], strict=True):
            reader.data_received(FRAMES[begin:end])
        reader.connection_lost(None)
        while arrived := await reader.arrived():
            messages.append(arrived.popleft())
        return messages

    assert MESSAGES == asyncio.run(received())


async def test_all_that_is_there_comes_at_once() -> None:
    """Who waits is woken by the first frame and finds the others beside it."""
    reader = FrameReader()
    waiting = asyncio.create_task(reader.arrived())
    await asyncio.sleep(0)
    reader.data_received(FRAMES)
    assert MESSAGES == list(await waiting)


async def test_a_frame_that_is_cut_short_by_the_end_is_none() -> None:
    """What a dying worker did not finish is not told, and the end is."""
    reader = FrameReader()
    reader.data_received(FRAMES[:-1])
    reader.connection_lost(ConnectionResetError())
    arrived = await reader.arrived()
    assert MESSAGES[:-1] == list(arrived)
    arrived.clear()
    assert not await reader.arrived()


@pytest.mark.parametrize("noise", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"])
async def test_noise_is_told_behind_what_came_before_it(noise: bytes) -> None:
    """Sound messages are not lost to the nonsense that follows, behind which nothing is read."""
    reader = FrameReader()
    reader.data_received(FRAMES + noise)
    reader.data_received(FRAMES)
    arrived = await reader.arrived()
    assert MESSAGES == list(arrived)
    arrived.clear()
    with pytest.raises(FrameError):
        await reader.arrived()


async def test_a_wait_that_is_given_up_loses_nothing() -> None:
    """A message that comes when a wait has been cancelled is there for the next one."""
    reader = FrameReader()
    waiting = asyncio.create_task(reader.arrived())
    await asyncio.sleep(0)
    waiting.cancel()
    reader.data_received(FRAMES)
    assert MESSAGES == list(await reader.arrived())


async def put_all(stream: Stream) -> None:
    for _ in range(3):
        stream.put(STEP)
        await asyncio.sleep(0)
    stream.put(EngineCrashedError("it died"))


async def put_at_once(stream: Stream) -> None:
    for _ in range(3):
        stream.put(STEP)
    stream.put(EngineCrashedError("it died"))


@pytest.mark.parametrize("put", [put_all, put_at_once])
async def test_a_streams_steps_come_in_order(put: Callable[[Stream], Awaitable[None]]) -> None:
    """One by one or several at a time: none is lost, and the end comes last."""
    stream = Stream(1, "r")
    putting = asyncio.ensure_future(put(stream))
    arrived = [await stream.get() for _ in range(4)]
    await putting
    assert [STEP] * 3 == arrived[:3]
    assert isinstance(arrived[3], EngineCrashedError)


async def test_a_stream_that_was_left_takes_what_comes() -> None:
    """A reader that was cancelled while it waited hinders nobody who puts."""
    stream = Stream(1, "r")
    reading = asyncio.create_task(stream.get())
    await asyncio.sleep(0)
    reading.cancel()
    stream.put(STEP)
    assert STEP == await stream.get()
