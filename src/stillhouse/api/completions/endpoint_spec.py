"""What each API dialect declares about its endpoints for completions and token counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.http.operation import Operation
from stillhouse.types.requests import ChatRequest

#: Every OpenAI path is served under both, as at DeepInfra.
OPENAI_BASES = ("/v1/openai", "/v1")
#: The first is DeepInfra's; vLLM, llama.cpp and Ollama have the second.
ANTHROPIC_BASES = ("/anthropic/v1", "/v1")

#: With which a completion can be refused, besides what its access and its body add.
COMPLETION_STATUSES = (400, 402, 403, 404, 405, 409, 502)
#: The same of a token count.
TOKEN_COUNT_STATUSES = (400, 403, 404, 405)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """
    An endpoint for completions in one dialect.

    Args:
        tag: Its group in the OpenAPI description.
        id_prefix: Starts the request ids that its clients see.
        read: Parses a body, with its path and headers.

    """

    paths: tuple[str, ...]
    tag: str
    id_prefix: str
    read: Callable[[bytes, RequestHead], ParsedRequest]
    operation: Operation


@dataclass(frozen=True, slots=True)
class TokenCountSpec:
    """
    An endpoint that counts the tokens of a prompt in one dialect.

    Args:
        tag: Its group in the OpenAPI description.
        read: Parses a body into a prompt.
        write: Encodes the number of tokens as a response.

    """

    paths: tuple[str, ...]
    tag: str
    read: Callable[[bytes], ChatRequest]
    write: Callable[[int], bytes]
    operation: Operation
