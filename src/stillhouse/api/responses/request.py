"""Parses the body of a response: OpenAI's newer JSON, without what needs stored state."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from stillhouse.api.http.schema_extras import describe_unsupported_fields
from stillhouse.api.http.validation import brief
from stillhouse.api.openai.chat_message import TOOL_NAME, NamedIn, NamedToolIn, tool_choice_of
from stillhouse.api.openai.chat_request import MAX_MESSAGES, MAX_TOOLS, MAX_TOP_LOGPROBS, EffortName
from stillhouse.api.openai.generation_request import MAX_TOKENS
from stillhouse.api.responses.items import ItemIn, conversation
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Tool, ToolChoice
from stillhouse.types.requests import ChatRequest, Effort
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, ResponseFormat
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.service_tier import ServiceTier

_WITH_LOGPROBS = "message.output_text.logprobs"
# The others request parts of items that are never generated here, so nothing is included.
# Reasoning is among them: it is sent as text, so that clients who ask for it encrypted (to send it
# back to a server that keeps nothing, as Codex does) can send it back all the same.
Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class _In(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class FunctionToolIn(_In):
    """
    A function that the model may call; OpenAI's own tools are not supported.

    Args:
        type: ``function``; any other is a 405.
        name: Required.

    """

    type: str = Field(max_length=64)
    name: str | None = Field(default=None, pattern=TOOL_NAME)
    description: str | None = Field(default=None, max_length=1 << 16)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def to_tool(self, path: str) -> Tool:
        """
        Returns the tool as a value of ``stillhouse.types``.

        Raises:
            UnsupportedFeatureError: It is not a function.
            InvalidRequestError: It has no name.

        """
        if self.type != "function":
            raise UnsupportedFeatureError(
                f"{path}.type: {brief(self.type)} is not offered here; right would be 'function'",
                param=f"{path}.type",
            )
        if self.name is None:
            raise InvalidRequestError(f"{path}.name: Field required", param=f"{path}.name")
        return Tool(self.name, self.description or "", self.parameters, bool(self.strict))


class FormatIn(_In):
    """
    The format that the response must have; a schema always binds, whatever `strict` says.

    Args:
        schema: Required with the type ``json_schema``, and forbidden with others.

    """

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = Field(default=None, max_length=256)
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError('"schema" goes with the type "json_schema", and with no other')
        return self

    def to_format(self) -> ResponseFormat | None:
        """Returns the format as a value of ``stillhouse.types``; None binds nothing."""
        if self.json_schema is not None:
            return JsonSchemaFormat(self.json_schema)
        return JsonObjectFormat() if self.type == "json_object" else None


class TextIn(_In):
    """The text's format; models here have one verbosity."""

    format: FormatIn = FormatIn()
    verbosity: Literal["medium"] | None = None


class ResponseReasoningIn(_In):
    """
    The reasoning effort.

    Args:
        summary: There are no summaries, as the reasoning itself is sent: ``auto`` is none, and no
        other kind is supported.

    """

    effort: EffortName | None = None
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None = None


class StreamOptionsIn(_In):
    """Options of a stream; padding against packet-size analysis is not supported."""

    include_obfuscation: Literal[False] | None = None


def _as_items(given: object) -> object:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if isinstance(given, list):
        return given
    raise ValueError("should be a string or a list of items")


# Known fields of OpenAI that are not supported, with the values that request nothing, and why.
_UNSUPPORTED_FIELDS: dict[str, tuple[tuple[object, ...], str]] = {
    "store": ((None, False), "nothing is stored here; send the conversation with every request"),
    "previous_response_id": ((None,), "nothing is stored here; send the items themselves"),
    "conversation": ((None,), "nothing is stored here; send the items themselves"),
    "background": ((None, False), "a response is answered while the client waits"),
    "prompt": ((None,), "no prompts are stored here; send the text itself"),
    "truncation": ((None, "disabled"), "nothing is left out of a conversation silently"),
    "context_management": ((None, []), "nothing is left out of a conversation silently"),
    "moderation": ((None,), "there is no moderation here"),
}


def _tell(schema: dict[str, Any]) -> None:
    describe_unsupported_fields(
        schema, {name: values for name, (values, _) in _UNSUPPORTED_FIELDS.items()}
    )


_ItemList = Annotated[list[ItemIn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


_CHOICES = {
    "anyOf": [
        {"enum": ["none", "auto", "required", None]},
        {
            "type": "object",
            "properties": {"type": {"const": "function"}, "name": {"type": "string"}},
            "required": ["type", "name"],
        },
    ]
}


class ResponseIn(BaseModel):
    """
    The body of a response; unknown fields are ignored.

    Args:
        tools: Each name must be there once.
        tool_choice: ``required`` needs tools; a named one must be among them.

    """

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra=_tell)

    model: str = Field(min_length=1, max_length=256)
    input: Annotated[_ItemList, BeforeValidator(_as_items, json_schema_input_type=str | _ItemList)]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptionsIn | None = None
    max_output_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    include: list[Includable] | None = Field(default=None, max_length=16)
    tools: Annotated[list[FunctionToolIn], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = (
        None
    )
    tool_choice: Annotated[Any, WithJsonSchema(_CHOICES)] = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = Field(default=None, ge=0)
    text: TextIn | None = None
    reasoning: ResponseReasoningIn | None = None
    service_tier: Literal["auto", "default", "priority", "flex"] | None = None
    metadata: (
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None
    ) = Field(default=None, max_length=16)
    user: str | None = Field(default=None, max_length=1024)
    safety_identifier: str | None = Field(default=None, max_length=1024)
    prompt_cache_key: str | None = Field(default=None, max_length=1024)

    @model_validator(mode="after")
    def _refuse_unsupported_fields(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            allowed, reason = _UNSUPPORTED_FIELDS.get(name, ((value,), ""))
            if value not in allowed:
                raise InvalidRequestError(
                    f"{name} {brief(value)} is not offered: {reason}", param=name
                )
        return self

    @property
    def has_logprobs(self) -> bool:
        """Whether the response has log probabilities."""
        return bool(self.top_logprobs) or _WITH_LOGPROBS in (self.include or ())

    @property
    def output_format(self) -> FormatIn:
        """The format that the response must have."""
        return (self.text or TextIn()).format

    def to_request(self) -> ChatRequest:
        """
        Returns the request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: Fields are missing, or contradict each other.
            UnsupportedFeatureError: It has images, files, or OpenAI's own tools.

        """
        tools = tuple(tool.to_tool(f"tools.{n}") for n, tool in enumerate(self.tools or ()))
        effort = (self.reasoning or ResponseReasoningIn()).effort
        return ChatRequest(
            self.model,
            messages=conversation(self.instructions, self.input, self.model),
            sampling=SamplingOverrides(temperature=self.temperature, top_p=self.top_p),
            max_tokens=self.max_output_tokens,
            top_logprobs=(self.top_logprobs or 0) if self.has_logprobs else None,
            response_format=self.output_format.to_format(),
            tier=ServiceTier.DEFAULT
            if self.service_tier in {None, "auto"}
            else ServiceTier(self.service_tier),
            tools=tools,
            tool_choice=self._tool_choice(tools),
            effort=None if effort is None else Effort(effort),
        )

    def _tool_choice(self, tools: tuple[Tool, ...]) -> ToolChoice:
        is_parallel = self.parallel_tool_calls is not False
        choice = self.tool_choice
        if choice is None or choice in ("none", "auto", "required"):
            return tool_choice_of(choice, tools, is_parallel=is_parallel)
        is_function = isinstance(choice, dict) and choice.get("type") == "function"
        if is_function and isinstance(name := choice.get("name"), str):
            named = NamedToolIn(type="function", function=NamedIn(name=name))
            return tool_choice_of(named, tools, is_parallel=is_parallel)
        raise InvalidRequestError(
            f"tool_choice: {brief(choice)} is not offered; right would be 'none', 'auto', "
            "'required', or an object with the type 'function' and a name",
            param="tool_choice",
        )
