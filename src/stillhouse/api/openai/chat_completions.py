"""``POST /v1/openai/chat/completions``: OpenAI's chat in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.endpoint_spec import COMPLETION_STATUSES, OPENAI_BASES, EndpointSpec
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.http.operation import Operation
from stillhouse.api.openai.chat_request import ChatCompletionIn
from stillhouse.api.openai.chat_response import (
    ChatCompletionChunkOut,
    ChatCompletionOut,
    completion_out,
)
from stillhouse.api.openai.chunks import ChunkEncoder
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.types.events import ChoiceAnswer, Finish
from stillhouse.types.response_meta import ResponseMeta

ID_PREFIX = "chatcmpl-"


def read_chat_completion(body: bytes, _head: RequestHead) -> ParsedRequest:
    """
    Parses a body into a request for a completion.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    parsed = parse_body(body, ChatCompletionIn)
    writer = ChatCompletionWriter(
        is_stream=bool(parsed.stream),
        has_logprobs=bool(parsed.logprobs),
        echoes_tier=parsed.service_tier is not None,
        options=parsed.stream_options or StreamOptions(),
    )
    return ParsedRequest(parsed.to_request(), writer)


@dataclass(frozen=True, slots=True)
class ChatCompletionWriter:
    """
    Encodes a response in OpenAI's format, with DeepInfra's `estimated_cost`.

    Args:
        echoes_tier: Whether the response has the charged tier: only if the request named one.

    """

    is_stream: bool
    has_logprobs: bool
    echoes_tier: bool
    options: StreamOptions

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        answer = completion_out(
            meta,
            choices,
            finish,
            has_logprobs=self.has_logprobs,
            service_tier=self._tier_to_echo(meta),
        )
        return msgspec.json.encode(answer)

    def event_encoder(self, meta: ResponseMeta) -> ChunkEncoder:
        """Returns the encoder of the stream."""
        return ChunkEncoder(
            meta,
            self.options,
            has_logprobs=self.has_logprobs,
            service_tier=self._tier_to_echo(meta),
        )

    def _tier_to_echo(self, meta: ResponseMeta) -> str | None:
        return meta.tier.value if self.echoes_tier else None


ENDPOINT = EndpointSpec(
    tuple(f"{base}/chat/completions" for base in OPENAI_BASES),
    "OpenAI",
    ID_PREFIX,
    read_chat_completion,
    Operation(
        "Generate a chat completion",
        body=ChatCompletionIn,
        response=ChatCompletionOut,
        event=ChatCompletionChunkOut,
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
    ),
)
