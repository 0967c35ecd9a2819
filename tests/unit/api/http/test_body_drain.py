from __future__ import annotations

import asyncio

import pytest

from stillhouse.api.http import body_drain
from stillhouse.api.http.body_drain import BodyDrainer


def sender(*chunks, then=None):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages += [then] if then else []

    async def receive():
        if not messages:
            await asyncio.get_running_loop().create_future()
        return messages.pop(0)

    return receive


@pytest.mark.parametrize(
    "end", [{"type": "http.request", "body": b"z"}, {"type": "http.disconnect"}]
)
async def test_a_body_is_read_to_its_end(end):
    """What is still on its way is taken, and then it is over."""
    body = BodyDrainer(sender(b"x", b"y", then=end))
    await body.drain()

    assert body.is_over


async def test_a_body_that_is_over_is_not_waited_for():
    """Whoever has read it all waits for nothing more."""
    body = BodyDrainer(sender(then={"type": "http.request", "body": b"x", "more_body": False}))
    await body.receive()
    await asyncio.wait_for(body.drain(), timeout=body_drain.TIMEOUT_S / 2)

    assert body.is_over


@pytest.mark.parametrize(("begins", "has_remainder"), [(False, True), (True, False)])
async def test_a_body_that_is_held_back_is_not_asked_for(begins, has_remainder):
    """A client that waits for 100 Continue and is refused is spared sending it."""
    body = BodyDrainer(sender(b"x", b"y", then={"type": "http.request", "body": b"z"}))
    if begins:
        await body.receive()
    await body.drain(awaits_continue=True)

    assert has_remainder is body.has_remainder is not body.is_over


async def test_a_body_without_end_is_given_up(monkeypatch):
    """Neither a silent client nor one that sends for ever is waited for."""
    monkeypatch.setattr(body_drain, "TIMEOUT_S", 0.001)
    silent = BodyDrainer(sender(b"x"))
    endless = BodyDrainer(sender(*[bytes(1 << 20)] * 6))
    await silent.drain()
    monkeypatch.setattr(body_drain, "TIMEOUT_S", 60)
    await endless.drain()

    assert (False, False) == (silent.is_over, endless.is_over)
