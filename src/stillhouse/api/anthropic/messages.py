"""``POST /anthropic/v1/messages``: Anthropic's messages."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from typing_extensions import TypedDict

from stillhouse.api.anthropic.request import MessagesIn, PromptIn
from stillhouse.api.anthropic.response import ID_PREFIX, AnthropicMessageOut, message_out
from stillhouse.api.anthropic.stream import AnthropicEventOut, MessageEncoder
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.endpoint_spec import (
    ANTHROPIC_BASES,
    COMPLETION_STATUSES,
    TOKEN_COUNT_STATUSES,
    EndpointSpec,
    TokenCountSpec,
)
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.http.errors import AnthropicErrorBodyOut
from stillhouse.api.http.operation import Operation
from stillhouse.api.openai.generation_request import parse_body
from stillhouse.types.events import ChoiceAnswer, Finish
from stillhouse.types.requests import ChatRequest
from stillhouse.types.response_meta import ResponseMeta


def read_message(body: bytes, _head: RequestHead) -> ParsedRequest:
    """
    Parses a body into a request for a completion.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    parsed = parse_body(body, MessagesIn)
    shows_thinking = parsed.thinking is None or parsed.thinking.display != "omitted"
    writer = MessageWriter(is_stream=bool(parsed.stream), shows_thinking=shows_thinking)
    return ParsedRequest(parsed.to_request(), writer)


def read_prompt(body: bytes) -> ChatRequest:
    """
    Parses a body into the prompt whose tokens are counted.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    return parse_body(body, PromptIn).to_request()


class AnthropicTokenCountOut(TypedDict):
    """The number of tokens in a prompt."""

    input_tokens: int


def count_out(num_tokens: int) -> bytes:
    """Encodes a token count."""
    count: AnthropicTokenCountOut = {"input_tokens": num_tokens}
    return msgspec.json.encode(count)


@dataclass(frozen=True, slots=True)
class MessageWriter:
    """Encodes a response in Anthropic's format."""

    is_stream: bool
    shows_thinking: bool

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        message = message_out(meta, choices[0], finish, shows_thinking=self.shows_thinking)
        return msgspec.json.encode(message)

    def event_encoder(self, meta: ResponseMeta) -> MessageEncoder:
        """Returns the encoder of the stream."""
        return MessageEncoder(meta, shows_thinking=self.shows_thinking)


ENDPOINT = EndpointSpec(
    tuple(f"{base}/messages" for base in ANTHROPIC_BASES),
    "Anthropic",
    ID_PREFIX,
    read_message,
    Operation(
        "Generate a message",
        body=MessagesIn,
        response=AnthropicMessageOut,
        event=AnthropicEventOut,
        error=AnthropicErrorBodyOut,
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
    ),
)
TOKEN_COUNT_ENDPOINT = TokenCountSpec(
    tuple(f"{base}/messages/count_tokens" for base in ANTHROPIC_BASES),
    "Anthropic",
    read_prompt,
    count_out,
    Operation(
        "Count the tokens of a message's prompt",
        body=PromptIn,
        response=AnthropicTokenCountOut,
        error=AnthropicErrorBodyOut,
        statuses=TOKEN_COUNT_STATUSES,
    ),
)
