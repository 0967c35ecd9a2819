"""One account with many keys beside an account with one: what counts is the account."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import cycle

import httpx

from tests.attacks.accounts import bearer, mint_keys, open_account
from tests.faults.fault_server import CHAT, HELLO, WAIT_S

#: Four answers at a time: what the attacker asks for takes seconds.
CONFIG = "slots = 4\nfirst_token_s = 0.07\n"
NUM_KEYS = 20
MORE_KEYS = 60


async def ask(client, headers):
    body = HELLO | {"max_tokens": 1, "temperature": 0}
    return await client.post(CHAT, json=body, headers=headers)


def client_of(server):
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=server.url, timeout=WAIT_S, limits=limits)


async def test_twenty_keys_get_one_accounts_share(server, attacker, victim):
    """Beside 160 requests of twenty keys that wait, the other account gets every second answer."""
    keys = await asyncio.to_thread(mint_keys, server, attacker, NUM_KEYS)
    finished = []

    async def finish(name, headers):
        assert 200 == (await ask(client, headers)).status_code
        finished.append(name)

    async with client_of(server) as client, asyncio.TaskGroup() as tasks:
        for _, key in zip(range(160), cycle(keys), strict=False):
            tasks.create_task(finish("attacker", bearer(key)))
        await asyncio.to_thread(server.wait_until, lambda: server.outstanding() > 100)
        await asyncio.gather(*(finish("victim", victim.headers) for _ in range(20)))
        beside = Counter(finished[finished.index("victim") :])

    assert 20 == beside["victim"]
    assert beside["attacker"] <= 60  # about 20; by key it would be all that were left


async def test_many_keys_do_not_fill_the_server(start_server):
    """An account takes what it may, whatever its keys; the other one's requests are admitted."""
    slow = "slots = 4\nfirst_token_s = 0.3\n[limits]\nmax_outstanding = 100\n"
    server = start_server(slow, general="max_outstanding = 32\n")
    attacker = await asyncio.to_thread(open_account, server, "attacker")
    victim = await asyncio.to_thread(open_account, server, "victim")
    keys = await asyncio.to_thread(mint_keys, server, attacker, MORE_KEYS)
    async with client_of(server) as client:
        attacks = [
            asyncio.create_task(ask(client, bearer(key)))
            for _, key in zip(range(MORE_KEYS), cycle(keys), strict=False)
        ]
        await asyncio.to_thread(server.wait_until, lambda: server.outstanding() >= 28)
        asked = await asyncio.gather(*(ask(client, victim.headers) for _ in range(3)))
        statuses = Counter(answer.status_code for answer in await asyncio.gather(*attacks))

    assert [200] * 3 == [answer.status_code for answer in asked]
    assert {200, 429} == statuses.keys()
