from __future__ import annotations

import asyncio
import gzip

import pytest
from starlette.requests import Request

from stillhouse.api.bodies.request_body import read_body
from stillhouse.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError

MAX_BYTES = 1 << 16
PACKED = gzip.compress(b"{}" * 999, mtime=0)  # the same in every process that collects


async def read(body, **headers):
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)] or [b""]

    async def receive():
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    names = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return await read_body(
        Request({"type": "http", "headers": names}, receive), max_bytes=MAX_BYTES
    )


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip "])
async def test_a_packed_body_is_unpacked(encoding):
    """Gzip is read whatever the case of its name."""
    body = b'{"model": "x"}' * 100
    assert body == await read(gzip.compress(body), content_encoding=encoding)


async def test_a_plain_body_is_left_alone():
    """Without the header nothing is guessed, even if it looks packed."""
    packed = gzip.compress(b"x")
    assert packed == await read(packed)
    assert packed == await read(packed, content_encoding="identity")


async def test_a_bomb_is_not_unpacked():
    """What grows beyond the limit is refused when the limit is reached."""
    with pytest.raises(BodyTooLargeError, match=str(MAX_BYTES)):
        await read(gzip.compress(bytes(100 * MAX_BYTES)), content_encoding="gzip")


async def test_exactly_the_limit_is_let_in():
    """The limit itself is allowed, packed or not, and one byte more is not."""
    assert MAX_BYTES == len(await read(gzip.compress(bytes(MAX_BYTES)), content_encoding="gzip"))
    assert MAX_BYTES == len(await read(bytes(MAX_BYTES)))
    with pytest.raises(BodyTooLargeError):
        await read(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"{}", "gzip", "not gzip"),
        (PACKED[:-9], "gzip", "one whole gzip stream"),
        (PACKED * 2, "gzip", "one whole gzip stream"),
        (b"{}", "br", "'br' is not read here"),
        (b"{}", "gzip, gzip", "'gzip, gzip' is not read here"),
    ],
)
async def test_what_is_not_whole_gzip_is_refused(body, encoding, reason):
    """The refusal names the header."""
    with pytest.raises(InvalidRequestError, match=reason) as refusal:
        await read(body, content_encoding=encoding)

    assert "Content-Encoding" == refusal.value.param


async def test_a_body_that_never_ends_is_given_up():
    """Whoever sends nothing more is not waited for without end."""

    async def receive():
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(BodyTooSlowError, match=r"within 0\.001 s"):
        await read_body(
            Request({"type": "http", "headers": []}, receive), max_bytes=9, timeout_s=0.001
        )
