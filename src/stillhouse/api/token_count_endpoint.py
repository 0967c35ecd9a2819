"""Every door to the length of a prompt: counted exactly, and nothing generated or charged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stillhouse.api.request_body import read_body
from stillhouse.chat import ChatRequest
from stillhouse.serving.completions import Completions


@dataclass(frozen=True, slots=True)
class TokenCountEndpoint:
    """
    A door, as an ASGI application.

    Args:
        read: A body in the door's dialect; raises InvalidRequestError.
        write: The number of tokens, in the door's dialect.

    """

    completions: Completions
    max_body_bytes: int
    read: Callable[[bytes], ChatRequest]
    write: Callable[[int], bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await read_body(Request(scope, receive), max_bytes=self.max_body_bytes)
        num_tokens = await self.completions.count_prompt_tokens(scope["principal"], self.read(body))
        response = Response(self.write(num_tokens), media_type="application/json")
        await response(scope, receive, send)
