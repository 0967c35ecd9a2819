"""``POST /v1/inference/{model}``: DeepInfra's native door, for prompts that are text as it is."""

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
    The completion that *body* asks for.

    Raises:
        InvalidRequestError: It is neither JSON nor a form, or a field is missing, of the wrong type
            or range.

    """
    parsed = read_inference_body(body, head)
    return ParsedRequest(parsed.to_request(), InferenceWriter(bool(parsed.stream)))


@dataclass(frozen=True, slots=True)
class InferenceWriter:
    """An answer as DeepInfra's own clients read it."""

    is_stream: bool

    def whole_body(
        self, meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
    ) -> bytes:
        """The whole answer as JSON."""
        return msgspec.json.encode(inference_out(meta, choices, finish))

    def event_encoder(self, meta: ResponseMeta) -> InferenceEvents:
        """What encodes the answer piece by piece."""
        return InferenceEvents(meta)


ENDPOINT = EndpointSpec(
    ("/v1/inference/{model_name:path}",),
    "DeepInfra",
    ID_PREFIX,
    read_inference,
    Operation(
        "DeepInfra's native text generation: a text continued as it stands",
        body=InferenceIn,
        response=InferenceOut,
        event=InferenceEventOut,
        queries=(VERSION,),
        statuses=COMPLETION_STATUSES,
        has_idempotency_key=True,
        forms=(MULTIPART.decode(), URLENCODED.decode()),
    ),
)
