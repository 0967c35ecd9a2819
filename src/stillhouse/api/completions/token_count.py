"""The endpoint of every dialect's token counts; they are exact and free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stillhouse.accounts.accounts import Principal
from stillhouse.api.bodies.body_reader import BodyReader
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.completions import Completions
from stillhouse.types.requests import ChatRequest

#: Stands for a model's name in error texts.
_WHAT = "count tokens"


@dataclass(frozen=True, slots=True)
class TokenCountEndpoint:
    """
    An ASGI application that counts the tokens of a prompt.

    Args:
        limits: Bound each account: counting is free of charge, but it is work.
        read: Parses a body in the dialect; raises InvalidRequestError. A function of a module.
        write: Encodes the number of tokens in the dialect.

    """

    completions: Completions
    bodies: BodyReader
    limits: RateLimiter
    read: Callable[[bytes], ChatRequest]
    write: Callable[[int], bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        principal: Principal = scope["principal"]
        request = Request(scope, receive)
        with self._counting(principal):
            async with self.bodies.read(request, principal, self.read) as prompt:
                num_tokens = await self.completions.count_prompt_tokens(principal, prompt)
        response = Response(self.write(num_tokens), media_type="application/json")
        await response(scope, receive, send)

    @contextmanager
    def _counting(self, principal: Principal) -> Iterator[None]:
        """Refuses a request beyond the limits before its body is read."""
        account_id, key_id = principal.account_id, principal.key_id
        self.limits.enter(account_id, key_id, _WHAT, prompt_tokens=0)
        try:
            yield
        finally:
            self.limits.leave(account_id, key_id, _WHAT, completion_tokens=0)
