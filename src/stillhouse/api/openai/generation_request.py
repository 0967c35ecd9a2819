"""The fields that OpenAI's chat and text completions share, with DeepInfra's ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from stillhouse.api.bodies.json_body import parse_json
from stillhouse.api.http.schema_extras import describe_required_fields, describe_unsupported_fields
from stillhouse.api.http.validation import brief, first_error
from stillhouse.errors import InvalidRequestError
from stillhouse.types.response_format import (
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ResponseFormat,
)
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.service_tier import ServiceTier

MAX_STOP_SEQUENCES = 16
MAX_N = 4
MAX_BIASES = 1024
MAX_TOKENS = 1_000_000

Body = TypeVar("Body", bound=BaseModel)
StopString = Annotated[str, Field(min_length=1, max_length=1024)]
Bias = Annotated[float, Field(ge=-100, le=100)]
# JSON keys are no integers, and a pattern cannot bound them by 2**31.
BiasesIn = Annotated[
    dict[str, Bias],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_BIASES,
            "propertyNames": {"pattern": "^[0-9]{1,10}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        }
    ),
]


_StopIn = StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_SEQUENCES)] | None


class StreamOptions(BaseModel):
    """
    Which chunks of a stream have usage.

    Args:
        include_usage: None puts it on the chunk with finish_reason, as DeepInfra does; True on a
        chunk of its own without choices, as OpenAI does; False leaves it out.
        continuous_usage_stats: Usage so far on every chunk.

    """

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchemaIn(BaseModel):
    """OpenAI's envelope of a schema; the schema always binds, whatever `strict` says."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: str = Field(default="answer", max_length=256)
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


_FORMAT_NEEDS = (
    ("text", ()),
    ("json_object", ()),
    ("json_schema", ("json_schema",)),
    ("regex", ("regex",)),
)


class ResponseFormatIn(BaseModel):
    """
    The format that the response must have.

    Args:
        json_schema: Required with the type ``json_schema``, and forbidden with others.
        regex: Required with the type ``regex``, and forbidden with others.

    """

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra=lambda schema: describe_required_fields(
            schema, "type", _FORMAT_NEEDS, is_exclusive=True
        ),
    )

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchemaIn | None = None
    regex: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        for kind in ("json_schema", "regex"):
            if (self.type == kind) != (getattr(self, kind) is not None):
                raise ValueError(f'"{kind}" goes with the type "{kind}", and with no other')
        return self

    def to_format(self) -> ResponseFormat | None:
        """Returns the format as a value of ``stillhouse.types``; None binds nothing."""
        if self.json_schema is not None:
            return JsonSchemaFormat(self.json_schema.json_schema)
        if self.regex is not None:
            return RegexFormat(self.regex)
        return JsonObjectFormat() if self.type == "json_object" else None


def _one_or_many(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop or []


def _ids_from_text(biases: object) -> object:
    """Converts the keys of JSON, which are text, to integers."""
    if not isinstance(biases, dict):
        return biases
    return {
        int(k) if k.isascii() and k.isdecimal() and len(k) < 11 else k: v for k, v in biases.items()
    }


class GenerationIn(BaseModel):
    """
    The fields of both endpoints.

    Unknown fields are ignored, as OpenAI's clients send some; known ones that are not supported are
    refused unless their value requests nothing.
    """

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra=lambda schema: describe_unsupported_fields(schema, UNSUPPORTED_FIELDS),
    )

    model: str = Field(min_length=1, max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=1000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    stop: Annotated[
        list[StopString],
        Field(max_length=MAX_STOP_SEQUENCES, fail_fast=True),
        BeforeValidator(_one_or_many, json_schema_input_type=_StopIn),
    ] = []
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=5)
    logit_bias: Annotated[
        Annotated[dict[Annotated[int, Field(ge=0, lt=2**31)], Bias], Field(max_length=MAX_BIASES)]
        | None,
        BeforeValidator(_ids_from_text, json_schema_input_type=BiasesIn | None),
    ] = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    response_format: ResponseFormatIn | None = None
    service_tier: Literal["auto", "default", "priority", "flex"] | None = None
    fail_fast: bool | None = None
    user: str | None = None
    prompt_cache_key: str | None = Field(default=None, max_length=1024)

    @model_validator(mode="after")
    def _refuse_unsupported_fields(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in UNSUPPORTED_FIELDS and value not in UNSUPPORTED_FIELDS[name]:
                raise InvalidRequestError(
                    f"{name} is not offered here, got {brief(value)}; leave it out", param=name
                )
        return self

    def generation_fields(self) -> dict[str, Any]:
        """Returns the keyword arguments of `GenerationRequest`, except `top_logprobs`."""
        return {
            "sampling": self._sampling(),
            "max_tokens": self.max_tokens,
            "stop": tuple(self.stop),
            "n": self.n or 1,
            "response_format": self.response_format and self.response_format.to_format(),
            "tier": ServiceTier.DEFAULT
            if self.service_tier in {None, "auto"}
            else ServiceTier(self.service_tier),
            "fail_fast": bool(self.fail_fast),
        }

    def _sampling(self) -> SamplingOverrides:
        return SamplingOverrides(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            logit_bias=tuple((self.logit_bias or {}).items()),
        )


# Known fields of DeepInfra, OpenAI or vLLM that are not supported, with the values that request
# nothing. Each would change the response; a chat template from a request could run code.
UNSUPPORTED_FIELDS: dict[str, tuple[object, ...]] = {
    "chat_template": (None,),
    "documents": (None, []),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "use_beam_search": (None, False),
    "prompt_logprobs": (None, False, 0),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
}


def parse_body(body: bytes, schema: type[Body]) -> Body:
    """
    Parses and validates a body.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    try:
        return schema.model_validate(parse_json(body))
    except ValidationError as error:
        raise first_error(error) from error
