from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.completions.endpoint import MAX_WRITE_BYTES, Chunks
from stillhouse.api.http.sse import COMMENT, EventStream

OPENING = b"data: opening\n\n"
CHUNKS = st.lists(st.binary(min_size=1, max_size=50) | st.just(b"x" * 20_000), max_size=20)


@given(CHUNKS, st.data())
async def test_any_grouping_gives_the_same_bytes(chunks, data):
    """Whatever is ready together, the client reads the same, in writes of a bounded size."""
    sent = []

    async def send(message):
        if message["type"] == "http.response.body":
            sent.append(message["body"])

    together = Chunks(EventStream(send, [], keep_alive=COMMENT), first=OPENING)
    for chunk in chunks:
        await together.add(chunk)
        if data.draw(st.booleans()):
            await together.flush()
    await together.flush()

    assert b"".join(sent) == (OPENING + b"".join(chunks) if chunks else b"")
    assert all(len(write) < MAX_WRITE_BYTES + 20_000 + len(OPENING) for write in sent)


async def test_what_is_ready_is_one_write():
    """Three chunks that wait together are sent together."""
    bodies = []

    async def send(message):
        if message["type"] == "http.response.body":
            bodies.append(message["body"])

    together = Chunks(EventStream(send, [], keep_alive=COMMENT), first=OPENING)
    for chunk in (b"1", b"2", b"3"):
        await together.add(chunk)
    assert [] == bodies
    await together.flush()

    assert [OPENING + b"123"] == bodies
