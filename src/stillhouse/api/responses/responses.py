"""``POST /v1/responses``: OpenAI's responses, none of which is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from typing_extensions import TypedDict

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.endpoint_spec import (
    COMPLETION_STATUSES,
    OPENAI_BASES,
    TOKEN_COUNT_STATUSES,
    EndpointSpec,
    TokenCountSpec,
)
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.http.operation import Operation
from stillhouse.api.openai.generation_request import parse_body
from stillhouse.api.responses.request import ResponseIn
from stillhouse.api.responses.response import (
    ID_PREFIX,
    EchoOut,
    ResponseOut,
    echo_out,
    ending_of,
    output_out,
    response_out,
)
from stillhouse.api.responses.stream import ResponseEncoder, ResponseEventOut
from stillhouse.types.events import ChoiceAnswer, Finish
from stillhouse.types.requests import ChatRequest
from stillhouse.types.response_meta import ResponseMeta


def read_response(body: bytes, _head: RequestHead) -> ParsedRequest:
    """
    Parses a body into a request for a completion.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    parsed = parse_body(body, ResponseIn)
    request = parsed.to_request()
    return ParsedRequest(
        request, ResponsesWriter(is_stream=bool(parsed.stream), echo=echo_out(parsed))
    )


def read_prompt(body: bytes) -> ChatRequest:
    """
    Parses a body into the prompt whose tokens are counted.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    return parse_body(body, ResponseIn).to_request()


class ResponseTokenCountOut(TypedDict):
    """How long a prompt is."""

    object: Literal["response.input_tokens"]
    input_tokens: int


def count_out(num_tokens: int) -> bytes:
    """How long a prompt is."""
    count: ResponseTokenCountOut = {
        "object": "response.input_tokens",
        "input_tokens": num_tokens,
    }
    return msgspec.json.encode(count)


@dataclass(frozen=True, slots=True)
class ResponsesWriter:
    """
    Encodes a response in the format of OpenAI's Responses API.

    Args:
        echo: The request's fields, encoded before generation, so that they cannot fail later.

    """

    is_stream: bool
    echo: EchoOut

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        (choice,) = choices
        response = response_out(
            meta,
            self.echo,
            status=ending_of(choice.reason),
            output=output_out(meta, choice),
            finish=finish,
        )
        return msgspec.json.encode(response)

    def event_encoder(self, meta: ResponseMeta) -> ResponseEncoder:
        """Returns the encoder of the stream."""
        return ResponseEncoder(meta, self.echo)


ENDPOINT = EndpointSpec(
    tuple(f"{base}/responses" for base in OPENAI_BASES),
    "OpenAI",
    ID_PREFIX,
    read_response,
    Operation(
        "Generate a response; nothing of it is stored",
        body=ResponseIn,
        response=ResponseOut,
        event=ResponseEventOut,
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
    ),
)
TOKEN_COUNT_ENDPOINT = TokenCountSpec(
    tuple(f"{base}/responses/input_tokens" for base in OPENAI_BASES),
    "OpenAI",
    read_prompt,
    count_out,
    Operation(
        "Count the tokens of a response's input",
        body=ResponseIn,
        response=ResponseTokenCountOut,
        statuses=TOKEN_COUNT_STATUSES,
    ),
)
