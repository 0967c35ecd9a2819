"""Parses the body of a chat completion: OpenAI's JSON with DeepInfra's extensions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stillhouse.api.openai.chat_message import MessageIn, NamedToolIn, ToolIn, tool_choice_of
from stillhouse.api.openai.generation_request import MAX_TOKENS, GenerationIn
from stillhouse.errors import InvalidRequestError
from stillhouse.types.requests import ChatRequest, Effort

MAX_MESSAGES = 4096
MAX_TOOLS = 128
MAX_TOP_LOGPROBS = 20

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
#: The effort of a request that only enables reasoning.
ENABLED = Effort.MEDIUM


class ReasoningIn(BaseModel):
    """The reasoning effort in OpenRouter's and DeepInfra's form."""

    model_config = ConfigDict(extra="ignore", strict=True)

    effort: EffortName | None = None
    enabled: bool | None = None


class TemplateKwargsIn(BaseModel):
    """The only variables of a chat template that a request may set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    thinking: bool | None = None
    enable_thinking: bool | None = None
    reasoning_effort: EffortName | None = None


class CacheOptionsIn(BaseModel):
    """DeepInfra's explicit retention; it changes nothing, as caching is automatic here."""

    model_config = ConfigDict(extra="ignore", strict=True)

    mode: Literal["explicit"] | None = None
    ttl: Literal["5m", "1h"] | None = None


class ChatCompletionIn(GenerationIn):
    """
    The body of a chat completion, with DeepInfra's ranges.

    Args:
        max_completion_tokens: The same as `max_tokens`: give one of them.
        top_logprobs: Needs `logprobs` to be true.
        tools: Names must be unique.
        tool_choice: ``required`` needs tools; a named one must be among them.
        reasoning_effort: Must not contradict `reasoning` or `chat_template_kwargs`.

    """

    messages: Annotated[
        list[MessageIn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    ]
    max_completion_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Annotated[list[ToolIn], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolIn | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: EffortName | None = None
    reasoning: ReasoningIn | None = None
    chat_template_kwargs: TemplateKwargsIn | None = None
    prompt_cache_options: CacheOptionsIn | None = None

    def to_request(self) -> ChatRequest:
        """
        Returns the request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: Fields contradict each other.

        """
        tools = tuple(tool.to_tool() for tool in self.tools or ())
        return ChatRequest(
            self.model,
            messages=tuple(
                message.to_message(f"messages.{index}", self.model)
                for index, message in enumerate(self.messages)
            ),
            **self.generation_fields() | {"max_tokens": self._max_tokens()},
            top_logprobs=self._top_logprobs(),
            tools=tools,
            tool_choice=tool_choice_of(
                self.tool_choice, tools, is_parallel=self.parallel_tool_calls is not False
            ),
            effort=self._effort(),
        )

    def _max_tokens(self) -> int | None:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            raise InvalidRequestError(
                f"max_tokens {old} and max_completion_tokens {new} differ; give one of them",
                param="max_completion_tokens",
            )
        return new if old is None else old

    def _top_logprobs(self) -> int | None:
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise InvalidRequestError(
                f"top_logprobs {self.top_logprobs} needs logprobs to be true", param="top_logprobs"
            )
        return None

    def _effort(self) -> Effort | None:
        """Returns the effort on which all fields for it agree."""
        given = {
            "reasoning_effort": self.reasoning_effort,
            **_efforts_of(self.reasoning or ReasoningIn()),
            **_efforts_of_kwargs(self.chat_template_kwargs or TemplateKwargsIn()),
        }
        efforts = {name: Effort(effort) for name, effort in given.items() if effort is not None}
        exact = {e for name, e in efforts.items() if name.endswith("effort") or e is Effort.NONE}
        if len(exact) > 1 or (Effort.NONE in exact and set(efforts.values()) != exact):
            contradiction = ", ".join(f"{name} {effort.value}" for name, effort in efforts.items())
            raise InvalidRequestError(
                f"These contradict each other: {contradiction}; give one of them",
                param="reasoning_effort",
            )
        return next(iter(exact or efforts.values()), None)


def _efforts_of(reasoning: ReasoningIn) -> dict[str, str | None]:
    return {
        "reasoning.effort": reasoning.effort,
        "reasoning.enabled": _effort_of_switch(is_on=reasoning.enabled),
    }


def _efforts_of_kwargs(kwargs: TemplateKwargsIn) -> dict[str, str | None]:
    return {
        "chat_template_kwargs.reasoning_effort": kwargs.reasoning_effort,
        "chat_template_kwargs.thinking": _effort_of_switch(is_on=kwargs.thinking),
        "chat_template_kwargs.enable_thinking": _effort_of_switch(is_on=kwargs.enable_thinking),
    }


def _effort_of_switch(*, is_on: bool | None) -> Effort | None:
    if is_on is None:
        return None
    return ENABLED if is_on else Effort.NONE
