"""The body of a message: Anthropic's JSON in DeepInfra's dialect."""

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

# Anthropic's tokens to think in, as the least effort that uses them; LiteLLM draws the same lines.
_EFFORT_FROM_BUDGET = ((10_000, Effort.HIGH), (5_000, Effort.MEDIUM), (2_000, Effort.LOW))


class _In(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class AnthropicToolIn(_In):
    """
    A tool that the client runs; those that Anthropic's servers run are not offered.

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
        The tool as a value of ``stillhouse.types``.

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
    Which tools an answer calls.

    Args:
        name: Required with the type ``tool``.

    """

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def to_choice(self, tools: tuple[Tool, ...]) -> ToolChoice:
        """
        The choice as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: It needs tools that are not there, or one is there twice.

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
    How much to think.

    Args:
        budget_tokens: Becomes the nearest effort: models here know no budget.
        enabled: DeepInfra's way to say it; must not contradict the type.
        display: ``omitted`` leaves the thoughts out of the answer; they are charged all the same.

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
        """The effort that is meant; None where nothing is said."""
        if self.type == "disabled" or self.enabled is False:
            return Effort.NONE
        if self.type is None and self.enabled is None:
            return None
        if self.budget_tokens is None:
            return ENABLED
        fitting = (e for least, e in _EFFORT_FROM_BUDGET if self.budget_tokens >= least)
        return next(fitting, Effort.MINIMAL)


class OutputFormatIn(_In):
    """The form that an answer must have."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfigIn(_In):
    """How much to think, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatIn | None = None


class ContextEditIn(_In):
    """
    A way to shorten the conversation on the server; only keeping everything is offered.

    Args:
        type: Right is ``clear_thinking_20251015`` alone.
        keep: Right is ``all`` alone.

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


# Known fields of Anthropic that are not offered, with the values that ask for nothing.
_UNSUPPORTED_FIELDS: dict[str, tuple[object, ...]] = {
    "mcp_servers": (None, []),
    "container": (None,),
    "inference_geo": (None, "global"),
    "speed": (None, "standard"),
}


class PromptIn(BaseModel):
    """
    What makes up a prompt; unknown fields are let through, ``cache_control`` among them.

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
        The request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: Fields are missing, or contradict each other.
            UnsupportedFeatureError: It has images, documents, or tools of Anthropic's own.

        """
        tools = tuple(tool.to_tool(f"tools.{n}") for n, tool in enumerate(self.tools or ()))
        choice = self.tool_choice or ToolChoiceIn(type="auto")
        turns = (
            turn.to_messages(f"messages.{index}", self.model)
            for index, turn in enumerate(self.messages)
        )
        return ChatRequest(
            self.model,
            messages=fold_system_messages(chain(system_of(self.system, self.model), *turns)),
            **self._generation(),
            response_format=self._response_format(),
            tools=tools,
            tool_choice=choice.to_choice(tools),
            effort=self._effort(),
        )

    def _generation(self) -> dict[str, Any]:
        """Keyword arguments of `ChatRequest` beside the prompt's own."""
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
    """The body of a message, with DeepInfra's ranges where they are wider than Anthropic's."""

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
