"""Renders conversations with one model's chat template and its family's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.text.families.base import ModelFamily, opens_in_reasoning
from stillhouse.text.prompt.continuation import AssistantPrefill, continuation, prefill_of
from stillhouse.text.prompt.template import ChatTemplate
from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message, Role, Tool, ToolMode
from stillhouse.types.requests import ChatRequest, Effort


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """
    A rendered conversation, up to where the model continues.

    Args:
        opens_in_reasoning: The model goes on inside the reasoning that the text has opened.
        is_continuation: The prompt ends in the assistant's own text, reasoning or content.

    """

    segments: list[Segment]
    opens_in_reasoning: bool
    is_continuation: bool


class ConversationWriter:
    """
    Renders conversations with one model's chat template and its family's rules.

    Tools can be offered to the model where `supports_tools` says so: its family knows how it
    calls them, and its template renders calls and what came of them.

    Args:
        model_id: For messages.

    """

    def __init__(self, template: ChatTemplate, family: ModelFamily, *, model_id: str) -> None:
        self._template = template
        self._family = family
        self._model_id = model_id
        can_describe = template.writes_tools or family.describe_tools is not None
        self.supports_tools = (
            family.call_form is not None and template.writes_calls and can_describe
        )

    def check(self, request: ChatRequest) -> None:
        """
        Refuses what the model does not support, before any work.

        Raises:
            InvalidRequestError: There is nothing to answer or to continue.
            UnsupportedFeatureError: The model knows no tools.

        """
        if not request.messages:
            raise InvalidRequestError(
                "messages is empty; it needs at least one message", param="messages"
            )
        earlier, last = _final(request.messages)
        if last is not None:
            _check_final(earlier, last)
        if not self.supports_tools:
            self._refuse_tools(request)

    def write(self, request: ChatRequest) -> RenderedPrompt:
        """
        Renders the conversation, up to where the model continues.

        Raises:
            InvalidRequestError: The template refuses it, leaves part of it out, or fails on it.
            CheckpointError: The template is not what it should be.

        """
        earlier, last = _final(request.messages)
        prefill = self._prefill(last) if last else AssistantPrefill()
        _check_whole(request, prefill)
        thinks = self._thinks(request, prefill)
        segments = self._render(earlier, offered_tools(request), thinks=thinks)
        reasoning = self._family.reasoning
        if reasoning is None:
            segments.append(Segment(prefill.content, is_template=False))
        else:
            segments += continuation(
                segments, reasoning, prefill, thinks=thinks, must_open=_is_bound(request)
            )
        return RenderedPrompt(
            segments,
            opens_in_reasoning=(
                reasoning is not None and opens_in_reasoning(segments, reasoning.tags)
            ),
            is_continuation=last is not None and _ends_in_request_text(segments),
        )

    def _refuse_tools(self, request: ChatRequest) -> None:
        has_tools = bool(offered_tools(request))
        has_calls = any(m.tool_calls or m.role is Role.TOOL for m in request.messages)
        if has_tools or has_calls:
            raise UnsupportedFeatureError(
                f"Tool calling is not supported for model: {self._model_id}",
                param="tools" if has_tools else "messages",
            )

    def _prefill(self, last: Message) -> AssistantPrefill:
        if self._family.reasoning is None:
            return AssistantPrefill(content=last.content)
        return prefill_of(last, self._family.reasoning.tags)

    def _thinks(self, request: ChatRequest, prefill: AssistantPrefill) -> bool:
        reasoning = self._family.reasoning
        if reasoning is None:  # and whatever effort is asked for: DeepInfra ignores it then
            return False
        is_asked = request.effort not in (None, Effort.NONE)
        if offered_tools(request) and not reasoning.goes_with_tools:
            if is_asked:
                raise InvalidRequestError(
                    f"{self._model_id} calls tools only without reasoning; right would be no "
                    'reasoning_effort, or "none"',
                    param="reasoning_effort",
                )
            return False
        if request.effort is not None:
            return is_asked
        return reasoning.is_on or bool(prefill.thoughts)

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool
    ) -> list[Segment]:
        history = [
            self._family.history(message) if message.role is Role.ASSISTANT else message
            for message in messages
        ]
        variable = self._family.reasoning.variable if self._family.reasoning else None
        variables = {variable: thinks} if variable else {}
        if not tools or self._template.writes_tools:
            return self._template.render(history, tools=tools, variables=variables)
        assert self._family.describe_tools is not None
        preface = self._family.describe_tools(tools)
        return self._template.render(history, preface=preface, variables=variables)


def offered_tools(request: ChatRequest) -> Sequence[Tool]:
    """Returns the tools that the prompt describes: none if the model must not call any."""
    return () if request.tool_choice.mode is ToolMode.NONE else request.tools


def _check_final(earlier: Sequence[Message], last: Message) -> None:
    if not earlier:
        raise InvalidRequestError(
            "The only message is the assistant's; continuing it needs one before it",
            param="messages",
        )
    if last.tool_calls:
        raise InvalidRequestError(
            "The last message is the assistant's and holds tool_calls; right would be their "
            "results after it, or content alone to be continued",
            param="messages",
        )


def _check_whole(request: ChatRequest, prefill: AssistantPrefill) -> None:
    if prefill.content and request.response_format is not None:
        raise InvalidRequestError(
            "response_format is for whole answers, and the last message is the beginning of "
            "one; leave either out",
            param="response_format",
        )


def _is_bound(request: ChatRequest) -> bool:
    """Returns whether the answer, after any reasoning, is constrained."""
    if request.response_format is not None:
        return True
    tools = offered_tools(request)
    is_required = request.tool_choice.mode is ToolMode.REQUIRED
    return bool(tools) and (is_required or any(tool.is_strict for tool in tools))


def _final(messages: Sequence[Message]) -> tuple[Sequence[Message], Message | None]:
    """Returns the conversation so far, and the assistant's message to continue, if any."""
    if messages[-1].role is Role.ASSISTANT:
        return messages[:-1], messages[-1]
    return messages, None


def _ends_in_request_text(segments: Sequence[Segment]) -> bool:
    last = next((segment for segment in reversed(segments) if segment.text), None)
    return last is not None and not last.is_template
