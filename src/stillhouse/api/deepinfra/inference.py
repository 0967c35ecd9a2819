"""``POST /v1/inference/{model}``: DeepInfra's native endpoint, for prompts without a template."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.endpoint_spec import COMPLETION_STATUSES, EndpointSpec
from stillhouse.api.completions.parsed_request import ParsedRequest
from stillhouse.api.deepinfra.events import InferenceEvents
from stillhouse.api.deepinfra.form_body import MULTIPART, URLENCODED
from stillhouse.api.deepinfra.request import VERSION, InferenceIn, read_inference_body
from stillhouse.api.deepinfra.response import InferenceEventOut, InferenceOut, inference_out
from stillhouse.api.http.operation import Operation
from stillhouse.types.events import ChoiceAnswer, Finish
from stillhouse.types.response_meta import ResponseMeta

ID_PREFIX = "R"


def read_inference(body: bytes, head: RequestHead) -> ParsedRequest:
    """
    Parses a body into a request for a completion.

    Raises:
        InvalidRequestError: It is neither JSON nor a form, or a field is missing, of the wrong type
            or range.

    """
    parsed = read_inference_body(body, head)
    return ParsedRequest(parsed.to_request(), InferenceWriter(bool(parsed.stream)))


@dataclass(frozen=True, slots=True)
class InferenceWriter:
    """Encodes a response in DeepInfra's native format."""

    is_stream: bool

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """Encodes the whole response as JSON."""
        return msgspec.json.encode(inference_out(meta, choices, finish))

    def event_encoder(self, meta: ResponseMeta) -> InferenceEvents:
        """Returns the encoder of the stream."""
        return InferenceEvents(meta)


ENDPOINT = EndpointSpec(
    ("/v1/inference/{model_name:path}",),
    "DeepInfra",
    ID_PREFIX,
    read_inference,
    Operation(
        "Continue a text without a chat template, in DeepInfra's native format",
        body=InferenceIn,
        response=InferenceOut,
        event=InferenceEventOut,
        queries=(VERSION,),
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
        forms=(MULTIPART.decode(), URLENCODED.decode()),
    ),
)
