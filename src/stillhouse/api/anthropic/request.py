"""Parses the body of a message: Anthropic's JSON with DeepInfra's extensions."""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stillhouse.api.anthropic.blocks import AnthropicMessageIn, Blocks, system_of
from stillhouse.api.anthropic.system_messages import fold_system_messages
from stillhouse.api.http.schema_extras import describe_unsupported_fields
from stillhouse.api.http.validation import brief
from stillhouse.api.openai.chat_message import NamedIn, NamedToolIn, tool_choice_of
from stillhouse.api.openai.chat_request import ENABLED, MAX_MESSAGES, MAX_TOOLS
from stillhouse.api.openai.generation_request import MAX_STOP_SEQUENCES, MAX_TOKENS
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.requests import ChatRequest, Effort
from stillhouse.types.response_format import JsonSchemaFormat, ResponseFormat
from stillhouse.types.sampling import SamplingOverrides

# The least budget of thinking tokens for each effort; LiteLLM has the same thresholds.
_EFFORT_FROM_BUDGET = ((10_000, Effort.HIGH), (5_000, Effort.MEDIUM), (2_000, Effort.LOW))


class _In(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class AnthropicToolIn(_In):
    """
    A tool that the client runs; Anthropic's server tools are not supported.

    Args:
        type: ``custom``; any other is a 405.
        input_schema: Required.

    """

    type: str | None = Field(default=None, max_length=64)
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str | None = Field(default=None, max_length=1 << 16)
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None

    def to_tool(self, path: str) -> Tool:
        """
        Returns the tool as a value of ``stillhouse.types``.

        Raises:
            UnsupportedFeatureError: It is one of Anthropic's own.
            InvalidRequestError: It has no schema.

        """
        if self.type not in {None, "custom"}:
            raise UnsupportedFeatureError(
                f"{path}.type: {brief(self.type)} is not offered here; right would be 'custom', "
                "with an input_schema",
                param=f"{path}.type",
            )
        if self.input_schema is None:
            raise InvalidRequestError(
                f"{path}.input_schema: Field required", param=f"{path}.input_schema"
            )
        return Tool(self.name, self.description or "", self.input_schema, bool(self.strict))


class ToolChoiceIn(_In):
    """
    Which tools the response may call.

    Args:
        name: Required with the type ``tool``.

    """

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def to_choice(self, tools: tuple[Tool, ...]) -> ToolChoice:
        """
        Returns the choice as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: It needs tools that are missing, or two tools share a name.

        """
        is_parallel = not self.disable_parallel_tool_use
        if self.type == "tool":
            if self.name is None:
                raise InvalidRequestError(
                    "tool_choice.name: Field required with the type 'tool'",
                    param="tool_choice.name",
                )
            named = NamedToolIn(type="function", function=NamedIn(name=self.name))
            return tool_choice_of(named, tools, is_parallel=is_parallel)
        if self.type == "any" and not tools:
            raise InvalidRequestError(
                "tool_choice: 'any' needs at least one entry in tools", param="tool_choice"
            )
        mode = ToolMode.REQUIRED if self.type == "any" else ToolMode(self.type)
        return tool_choice_of(mode, tools, is_parallel=is_parallel)


class ThinkingIn(_In):
    """
    The reasoning effort.

    Args:
        budget_tokens: Becomes the nearest effort: models here have no token budget for thinking.
        enabled: DeepInfra's field; must not contradict the type.
        display: ``omitted`` leaves reasoning out of the response; it is charged all the same.

    """

    type: Literal["enabled", "disabled", "adaptive"] | None = None
    budget_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    enabled: bool | None = None
    display: Literal["summarized", "omitted"] | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if self.type and self.enabled is not None and (self.type != "disabled") != self.enabled:
            raise ValueError(f'the type "{self.type}" and "enabled" contradict each other')
        return self

    def effort(self) -> Effort | None:
        """Returns the requested effort; None if the body has none."""
        if self.type == "disabled" or self.enabled is False:
            return Effort.NONE
        if self.type is None and self.enabled is None:
            return None
        if self.budget_tokens is None:
            return ENABLED
        fitting = (e for least, e in _EFFORT_FROM_BUDGET if self.budget_tokens >= least)
        return next(fitting, Effort.MINIMAL)


class OutputFormatIn(_In):
    """The format that the response must have."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfigIn(_In):
    """The reasoning effort, and the format of the response."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatIn | None = None


class ContextEditIn(_In):
    """
    A way to shorten the conversation on the server; only keeping all of it is supported.

    Args:
        type: Must be ``clear_thinking_20251015``.
        keep: Must be ``all``.

    """

    type: str
    keep: Any = None

    @model_validator(mode="after")
    def _check_that_all_is_kept(self) -> Self:
        if self.type != "clear_thinking_20251015" or self.keep != "all":
            raise ValueError(
                "the conversation is not shortened here; right would be no edit, or "
                'clear_thinking_20251015 with "keep" "all"'
            )
        return self


class ContextManagementIn(_In):
    """Ways to shorten the conversation on the server."""

    edits: list[ContextEditIn] = Field(default=[], max_length=16, fail_fast=True)


# Known fields of Anthropic that are not supported, with the values that request nothing.
_UNSUPPORTED_FIELDS: dict[str, tuple[object, ...]] = {
    "mcp_servers": (None, []),
    "container": (None,),
    "inference_geo": (None, "global"),
    "speed": (None, "standard"),
}


class PromptIn(BaseModel):
    """
    The fields of a prompt; unknown ones such as ``cache_control`` are ignored.

    Args:
        tools: Each name must be there once.
        tool_choice: ``any`` needs tools; a named one must be among them.
        output_format: The older name of `output_config`'s format: give one of them.

    """

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra=lambda schema: describe_unsupported_fields(schema, _UNSUPPORTED_FIELDS),
    )

    model: str = Field(min_length=1, max_length=256)
    messages: Annotated[
        list[AnthropicMessageIn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    ]
    system: Blocks | None = None
    tools: Annotated[list[AnthropicToolIn], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = (
        None
    )
    tool_choice: ToolChoiceIn | None = None
    thinking: ThinkingIn | None = None
    output_config: OutputConfigIn | None = None
    output_format: OutputFormatIn | None = None
    context_management: ContextManagementIn | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_fields(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in _UNSUPPORTED_FIELDS and value not in _UNSUPPORTED_FIELDS[name]:
                raise InvalidRequestError(
                    f"{name} is not offered here, got {brief(value)}; leave it out", param=name
                )
        return self

    def to_request(self) -> ChatRequest:
        """
        Returns the request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: Fields are missing, or contradict each other.
            UnsupportedFeatureError: It has images, documents, or Anthropic's server tools.

        """
        tools = tuple(tool.to_tool(f"tools.{n}") for n, tool in enumerate(self.tools or ()))
        choice = self.tool_choice or ToolChoiceIn(type="auto")
        messages = (
            message.to_messages(f"messages.{index}", self.model)
            for index, message in enumerate(self.messages)
        )
        return ChatRequest(
            self.model,
            messages=fold_system_messages(chain(system_of(self.system, self.model), *messages)),
            **self._generation(),
            response_format=self._response_format(),
            tools=tools,
            tool_choice=choice.to_choice(tools),
            effort=self._effort(),
        )

    def _generation(self) -> dict[str, Any]:
        """Returns the arguments of `ChatRequest` besides the prompt's."""
        return {}

    def _effort(self) -> Effort | None:
        thinking = (self.thinking or ThinkingIn()).effort()
        exact = (self.output_config or OutputConfigIn()).effort
        return thinking if exact is None or thinking is Effort.NONE else Effort(exact)

    def _response_format(self) -> ResponseFormat | None:
        new = (self.output_config or OutputConfigIn()).format
        if new and self.output_format and new != self.output_format:
            raise InvalidRequestError(
                "output_config.format and output_format differ; give the first one alone",
                param="output_format",
            )
        format_in = new or self.output_format
        return None if format_in is None else JsonSchemaFormat(format_in.json_schema)


class MessagesIn(PromptIn):
    """The body of a message; ranges are DeepInfra's if wider than Anthropic's."""

    max_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=1000)
    stop_sequences: list[Annotated[str, Field(min_length=1, max_length=1024)]] | None = Field(
        default=None, max_length=MAX_STOP_SEQUENCES
    )
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def _generation(self) -> dict[str, Any]:
        return {
            "sampling": SamplingOverrides(
                temperature=self.temperature, top_p=self.top_p, top_k=self.top_k
            ),
            "max_tokens": self.max_tokens,
            "stop": tuple(self.stop_sequences or ()),
        }
