"""The other account, whose answers must stay complete and be charged once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.attacks.accounts import Account
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import CHAT, HELLO, WAIT_S, FaultServer


class Victim:
    """A well-behaved customer beside an attacker."""

    def __init__(self, server: FaultServer, account: Account) -> None:
        self.server = server
        self.account = account

    @property
    def headers(self) -> dict[str, str]:
        return self.account.headers

    def ask(self, *, path: str = CHAT, **fields: Any) -> httpx.Response:
        """Send one request that is not streamed, and return its response."""
        return httpx.post(
            self.server.url + path, json=HELLO | fields, headers=self.headers, timeout=WAIT_S
        )

    def is_answered(self, *, max_tokens: int = 3) -> bool:
        """Send one request; return whether the answer has every token."""
        response = self.ask(max_tokens=max_tokens, temperature=0)
        return (
            response.status_code == 200
            and response.json()["usage"]["completion_tokens"] == max_tokens
        )

    @contextmanager
    def streaming(self, *, max_tokens: int = 100) -> Iterator[BareClient]:
        """Run a stream during the block; at its end, every token must have arrived."""
        with BareClient(self.server, self.headers, max_tokens=max_tokens) as stream:
            stream.read(2)
            yield stream
            *_, finish, done = stream.events()
        assert finish is not None, "the victim's stream was cut"
        assert (max_tokens, None) == (finish["usage"]["completion_tokens"], done)
