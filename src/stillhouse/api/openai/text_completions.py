"""``POST /v1/openai/completions``: OpenAI's text completions in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.endpoint_spec import COMPLETION_STATUSES, OPENAI_BASES, EndpointSpec
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.http.operation import Operation
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.api.openai.text_logprobs import TextLogprobs
from stillhouse.api.openai.text_request import TextCompletionIn
from stillhouse.api.openai.text_response import (
    TextChunkEncoder,
    TextCompletionOut,
    text_completion_out,
)
from stillhouse.types.events import ChoiceAnswer, Finish
from stillhouse.types.response_meta import ResponseMeta

ID_PREFIX = "cmpl-"


def read_text_completion(body: bytes, _head: RequestHead) -> ParsedRequest:
    """
    Parses a body into a request for a completion.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    parsed = parse_body(body, TextCompletionIn)
    writer = TextCompletionWriter(
        is_stream=bool(parsed.stream),
        has_logprobs=parsed.logprobs is not None,
        names_ids=bool(parsed.return_tokens_as_token_ids),
        echoes_tier=parsed.service_tier is not None,
        options=parsed.stream_options or StreamOptions(),
    )
    return ParsedRequest(parsed.to_request(), writer)


@dataclass(frozen=True, slots=True)
class TextCompletionWriter:
    """
    Encodes a response in OpenAI's format, with DeepInfra's `estimated_cost`.

    Args:
        names_ids: Log probabilities name tokens by their ids.
        echoes_tier: Whether the response has the charged tier: only if the request named one.

    """

    is_stream: bool
    has_logprobs: bool
    names_ids: bool
    echoes_tier: bool
    options: StreamOptions

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        answer = text_completion_out(
            meta, choices, finish, self._logprobs(meta), service_tier=self._tier_to_echo(meta)
        )
        return msgspec.json.encode(answer)

    def event_encoder(self, meta: ResponseMeta) -> TextChunkEncoder:
        """Returns the encoder of the stream."""
        return TextChunkEncoder(
            meta,
            self.options,
            self._logprobs(meta),
            service_tier=self._tier_to_echo(meta),
        )

    def _logprobs(self, meta: ResponseMeta) -> list[TextLogprobs] | None:
        """Returns an encoder of log probabilities per choice, if they are requested."""
        if not self.has_logprobs:
            return None
        return [TextLogprobs(names_ids=self.names_ids) for _ in range(meta.n)]

    def _tier_to_echo(self, meta: ResponseMeta) -> str | None:
        return meta.tier.value if self.echoes_tier else None


ENDPOINT = EndpointSpec(
    tuple(f"{base}/completions" for base in OPENAI_BASES),
    "OpenAI",
    ID_PREFIX,
    read_text_completion,
    Operation(
        "Continue a text without a chat template",
        body=TextCompletionIn,
        response=TextCompletionOut,
        event=TextCompletionOut,
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
    ),
)
