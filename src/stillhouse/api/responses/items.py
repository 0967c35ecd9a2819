"""Converts the input items of OpenAI's responses to messages of `types.messages`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stillhouse.api.anthropic.system_messages import merge_leading_system_messages
from stillhouse.api.http.schema_extras import describe_required_fields
from stillhouse.api.http.validation import brief
from stillhouse.api.openai.chat_message import MAX_PARTS
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, ToolCall

_TEXT_TYPES = frozenset({"input_text", "output_text", "text", "reasoning_text", "summary_text"})
_REQUIRED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}


_PART_NEEDS = (
    *((type_, ("text",)) for type_ in sorted(_TEXT_TYPES)),
    ("refusal", ("refusal",)),
)


class PartIn(BaseModel):
    """
    One part of a text that is given as a list.

    Args:
        type: One of input_text, output_text, text, reasoning_text, summary_text, refusal; any other
            is a 405.
        text: Required, except for a refusal.
        refusal: Required with the type ``refusal``.

    """

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra=lambda schema: describe_required_fields(schema, "type", _PART_NEEDS),
    )

    type: str = Field(max_length=64)
    text: str | None = None
    refusal: str | None = None


def _as_parts(content: object) -> object:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return content
    raise ValueError("should be a string or a list of text parts")


_PartList = Annotated[list[PartIn], Field(max_length=MAX_PARTS, fail_fast=True)]
Parts = Annotated[_PartList, BeforeValidator(_as_parts, json_schema_input_type=str | _PartList)]


class ItemIn(BaseModel):
    """
    One item of the input.

    Args:
        type: One of message (the default), function_call, function_call_output,
            reasoning; any other is a 405.
        role: Required of a message; ``developer`` is OpenAI's ``system`` for reasoning models.
        content: Required of a message.
        summary: Of reasoning; used if the reasoning itself was not sent back.
        call_id: Required of a call and its output.
        name: Required of a call.
        arguments: Required of a call; JSON text.
        output: Required of a call's output.

    """

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra=lambda schema: describe_required_fields(
            schema, "type", _REQUIRED.items()
        ),
    )

    type: str = Field(default="message", max_length=64)
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Parts | None = None
    summary: Parts | None = None
    call_id: str | None = Field(default=None, min_length=1, max_length=256)
    name: str | None = Field(default=None, min_length=1, max_length=128)
    arguments: str | None = None
    output: Parts | None = None

    @model_validator(mode="before")
    @classmethod
    def _keep_unknown_types_alone(cls, item: object) -> object:
        """Keeps only the type of unsupported items, which is what gets refused."""
        if not isinstance(item, dict) or not isinstance(type_ := item.get("type"), str):
            return item
        return item if type_ in _REQUIRED else {"type": type_}


def conversation(instructions: str | None, items: list[ItemIn], model: str) -> tuple[Message, ...]:
    """
    Converts *items*: reasoning, text and calls of one turn become one message.

    Args:
        instructions: The text of a system message in front of them.
        model: The requested model, for error texts.

    Raises:
        InvalidRequestError: An item lacks a field.
        UnsupportedFeatureError: An item or part is neither text nor a function's.

    """
    messages = [Message(Role.SYSTEM, instructions)] if instructions else []
    for n, item in enumerate(items):
        message = _message_of(item, f"input.{n}", model)
        if messages and _continues(message, messages[-1]):
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return merge_leading_system_messages(messages)


def _message_of(item: ItemIn, at: str, model: str) -> Message:
    _check(item, at)
    text = _text_of(item.content or (), f"{at}.content", model)
    if item.type == "reasoning":
        summary = _text_of(item.summary or (), f"{at}.summary", model)
        return Message(Role.ASSISTANT, "", reasoning=text or summary)
    if item.type == "function_call":
        call = ToolCall(item.call_id or "", item.name or "", item.arguments or "")
        return Message(Role.ASSISTANT, "", tool_calls=(call,))
    if item.type == "function_call_output":
        output = _text_of(item.output or (), f"{at}.output", model)
        return Message(Role.TOOL, output, tool_call_id=item.call_id)
    role = Role.SYSTEM if item.role == "developer" else Role(item.role or "user")
    return Message(role, text)


def _check(item: ItemIn, at: str) -> None:
    if item.type == "item_reference":
        raise UnsupportedFeatureError(
            f"{at}.type: nothing is stored here that an item_reference could mean; right would be "
            "the item itself",
            param=f"{at}.type",
        )
    if item.type not in _REQUIRED:
        raise UnsupportedFeatureError(
            f"{at}.type: {brief(item.type)} is not offered here; right would be one of: "
            f"{', '.join(_REQUIRED)}",
            param=f"{at}.type",
        )
    for name in _REQUIRED[item.type]:
        if getattr(item, name) is None:
            raise InvalidRequestError(f"{at}.{name}: Field required", param=f"{at}.{name}")


def _text_of(parts: Iterable[PartIn], path: str, model: str) -> str:
    return "".join(_text_in(part, f"{path}.{n}", model) for n, part in enumerate(parts))


def _text_in(part: PartIn, at: str, model: str) -> str:
    if part.type not in _TEXT_TYPES | {"refusal"}:
        raise UnsupportedFeatureError(
            f"Multimodal is not supported for model: {model} ({at} has the type "
            f"{brief(part.type)}; right would be 'input_text')",
            param=at,
        )
    name = "refusal" if part.type == "refusal" else "text"
    text: str | None = getattr(part, name)
    if text is None:
        raise InvalidRequestError(f"{at}.{name}: Field required", param=f"{at}.{name}")
    return text


def _continues(message: Message, last: Message) -> bool:
    """Returns whether *message* continues the turn: reasoning, then text, then calls."""
    if message.role is not Role.ASSISTANT or last.role is not Role.ASSISTANT:
        return False
    if message.tool_calls:
        return True
    return bool(message.content) and not last.content and not last.tool_calls


def _joined(last: Message, message: Message) -> Message:
    return replace(
        last,
        content=last.content + message.content,
        tool_calls=last.tool_calls + message.tool_calls,
    )
