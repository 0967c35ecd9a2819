"""The doors to a completion: which path reads which dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stillhouse.api.anthropic import messages as anthropic_messages
from stillhouse.api.anthropic.response import ID_PREFIX as MESSAGE_ID_PREFIX
from stillhouse.api.bodies.body_reader import BodyReader
from stillhouse.api.bodies.parsed_request import ParsedRequest
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completion_endpoint import CompletionEndpoint
from stillhouse.api.deepinfra import inference
from stillhouse.api.http.json_route import JsonRoute
from stillhouse.api.openai import chat_completions, text_completions
from stillhouse.api.responses import responses
from stillhouse.api.responses.response import ID_PREFIX as RESPONSE_ID_PREFIX
from stillhouse.api.token_count_endpoint import TokenCountEndpoint
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.completions import Completions
from stillhouse.types.requests import ChatRequest

#: Every OpenAI spec is there under both, as at DeepInfra.
OPENAI_BASES = ("/v1/openai", "/v1")
#: The first is DeepInfra's; the second is where vLLM, llama.cpp and Ollama have it.
ANTHROPIC_BASES = ("/anthropic/v1", "/v1")


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """
    One dialect, and where it is spoken.

    Args:
        id_prefix: Of the ids that its clients see.
        read: From a body, with its path and headers, to what it asks for.

    """

    paths: tuple[str, ...]
    id_prefix: str
    read: Callable[[bytes, RequestHead], ParsedRequest]


@dataclass(frozen=True, slots=True)
class TokenCountSpec:
    """
    Where one dialect asks how long a prompt is.

    Args:
        read: From a body to the prompt.
        write: From the number of its tokens to an answer.

    """

    paths: tuple[str, ...]
    read: Callable[[bytes], ChatRequest]
    write: Callable[[int], bytes]


ENDPOINTS = (
    EndpointSpec(
        tuple(f"{base}/chat/completions" for base in OPENAI_BASES),
        chat_completions.ID_PREFIX,
        chat_completions.read_chat_completion,
    ),
    EndpointSpec(
        tuple(f"{base}/completions" for base in OPENAI_BASES),
        text_completions.ID_PREFIX,
        text_completions.read_text_completion,
    ),
    EndpointSpec(
        ("/v1/inference/{model_name:path}",),
        inference.ID_PREFIX,
        inference.read_inference,
    ),
    EndpointSpec(
        tuple(f"{base}/messages" for base in ANTHROPIC_BASES),
        MESSAGE_ID_PREFIX,
        anthropic_messages.read_message,
    ),
    EndpointSpec(
        tuple(f"{base}/responses" for base in OPENAI_BASES),
        RESPONSE_ID_PREFIX,
        responses.read_response,
    ),
)


TOKEN_COUNT_ENDPOINTS = (
    TokenCountSpec(
        tuple(f"{base}/messages/count_tokens" for base in ANTHROPIC_BASES),
        anthropic_messages.read_prompt,
        anthropic_messages.count_out,
    ),
    TokenCountSpec(
        tuple(f"{base}/responses/input_tokens" for base in OPENAI_BASES),
        responses.read_prompt,
        responses.count_out,
    ),
)


def completion_routes(
    completions: Completions, bodies: BodyReader, *, count_limits: RateLimiter, keep_alive_s: float
) -> list[JsonRoute]:
    """
    A route for each path of each spec.

    Args:
        count_limits: Of those who ask how long a prompt is.
        keep_alive_s: Longest silence in a stream.

    """
    return [
        JsonRoute(path, endpoint, methods=["POST"])
        for spec in ENDPOINTS
        for endpoint in [
            CompletionEndpoint(completions, bodies, spec.id_prefix, spec.read, keep_alive_s)
        ]
        for path in spec.paths
    ] + [
        JsonRoute(path, endpoint, methods=["POST"])
        for spec in TOKEN_COUNT_ENDPOINTS
        for endpoint in [
            TokenCountEndpoint(completions, bodies, count_limits, spec.read, spec.write)
        ]
        for path in spec.paths
    ]
