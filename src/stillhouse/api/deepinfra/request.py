"""Parses the body of DeepInfra's native inference: JSON or a form, with a raw prompt."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from stillhouse.api.bodies.json_body import parse_json
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.deepinfra.form_body import Field as FormField
from stillhouse.api.deepinfra.form_body import read_form
from stillhouse.api.http.operation import Query
from stillhouse.api.http.validation import brief, first_error
from stillhouse.api.openai.generation_request import MAX_N, MAX_TOKENS, GenerationIn
from stillhouse.errors import InvalidRequestError
from stillhouse.types.requests import TextRequest

DEFAULT_NEW_TOKENS = 512
#: The query parameter with a model's version.
VERSION = Query("version", "must be the version that is served")
_DEPLOYMENT = "deploy/"
#: In a form these fields are plain text; any other is JSON.
_TEXTS = frozenset({"input", "webhook", "user", "prompt_cache_key", "service_tier"})
_SPELT_IN_PYTHON = {"True": True, "False": False}


class InferenceIn(GenerationIn):
    """
    The body of a text generation, with DeepInfra's names; the path has the model.

    Args:
        num_responses: Above 1 it cannot be streamed.
        webhook: Not supported; must be empty.

    """

    model: SkipJsonSchema[str] = Field(min_length=1, max_length=256)
    input: str
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, alias="max_new_tokens")
    n: int | None = Field(default=None, ge=1, le=MAX_N, alias="num_responses")
    webhook: str | None = None

    def to_request(self) -> TextRequest:
        """
        Returns the request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: It requests what is not supported.

        """
        if self.webhook:
            raise InvalidRequestError(
                f"webhook is not offered here, got {brief(self.webhook)}; leave it out, and the "
                "answer comes as the response",
                param="webhook",
            )
        if self.stream and (self.n or 1) > 1:
            raise InvalidRequestError(
                f"num_responses {self.n} cannot be streamed, as its events would not say which "
                "response they belong to; leave stream out",
                param="num_responses",
            )
        return TextRequest(
            self.model,
            prompt=self.input,
            **self.generation_fields() | {"max_tokens": self.max_tokens or DEFAULT_NEW_TOKENS},
            top_logprobs=0 if self.stream else None,
        )


def read_inference_body(body: bytes, head: RequestHead) -> InferenceIn:
    """
    Parses a body, for the model in the path and in ``?version=``.

    Raises:
        InvalidRequestError: It is neither JSON nor a form, or a field is missing, of the wrong type
            or range.

    """
    fields = _read_fields(body, head.content_type)
    try:
        return InferenceIn.model_validate(
            fields | {"model": _model_name(head.model_name, head.version)}
        )
    except ValidationError as error:
        raise first_error(error) from error


def _model_name(name: str, version: str | None) -> str:
    """Returns the model's name as the other endpoints spell it."""
    if name.startswith(_DEPLOYMENT):
        return f"deploy_id:{name.removeprefix(_DEPLOYMENT)}"
    return f"{name}:{version}" if version else name


def _read_fields(body: bytes, content_type: str) -> dict[str, Any]:
    # curl's -d declares a form, also if the body is JSON.
    if not body.lstrip().startswith(b"{"):
        form = read_form(body, content_type)
        if form is not None:
            return _from_form(form)
    fields = parse_json(body)
    if not isinstance(fields, dict):
        raise InvalidRequestError("The request body is not a JSON object")
    return fields


def _from_form(form: list[FormField]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    stop = [text for name, text in form if name == "stop"]
    for name, text in form:
        if name in fields:
            raise InvalidRequestError(f"{name} is given twice; only stop may be", param=name)
        if name != "stop":
            fields[name] = text if name in _TEXTS else _from_text(text)
    return fields | ({"stop": _stop_strings(stop)} if stop else {})


def _stop_strings(texts: list[str]) -> list[Any]:
    """Returns the stop strings: one per field, or a JSON list in the only field."""
    listed = _from_text(texts[0]) if len(texts) == 1 else None
    return listed if isinstance(listed, list) else texts


def _from_text(text: str) -> Any:
    """Returns the JSON value, or the text itself, which the field's own check may refuse."""
    if text in _SPELT_IN_PYTHON:
        return _SPELT_IN_PYTHON[text]
    try:
        return parse_json(text.encode())
    except InvalidRequestError:
        return text
