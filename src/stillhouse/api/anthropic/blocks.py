"""Converts Anthropic's messages, block by block, to those of `types.messages`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stillhouse.api.bodies.json_body import json_text
from stillhouse.api.http.schema_extras import describe_required_fields
from stillhouse.api.http.validation import brief
from stillhouse.api.openai.chat_message import MAX_PARTS
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, ToolCall

#: Claude Code starts its system prompt with a line of this name that differs in every request. It
#: means nothing to a model, and would keep the prefix cache from ever matching.
BILLING_HEADER = "x-anthropic-billing-header"

_TYPES_OF = {
    Role.SYSTEM: {"text"},
    Role.USER: {"text", "tool_result"},
    Role.ASSISTANT: {"text", "thinking", "redacted_thinking", "tool_use"},
    Role.TOOL: {"text"},
}
_KNOWN_TYPES = frozenset(type_ for types in _TYPES_OF.values() for type_ in types)
_REQUIRED = {
    "text": ("text",),
    "thinking": ("thinking",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
}


def _describe_types(schema: dict[str, Any]) -> None:
    describe_required_fields(
        schema, "type", ((t, _REQUIRED.get(t, ())) for t in sorted(_KNOWN_TYPES))
    )


def _as_blocks(content: object) -> object:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return content
    raise ValueError("should be a string or a list of blocks")


class BlockIn(BaseModel):
    """
    One block of a message.

    Args:
        type: From an assistant: text, thinking, redacted_thinking, tool_use; from a user: text,
        tool_result; otherwise text. Any other type is a 405.
        text: Required with the type ``text``.
        thinking: Required with the type ``thinking``.
        id: Required with the type ``tool_use``.
        name: Required with the type ``tool_use``.
        input: Required with the type ``tool_use``.
        tool_use_id: Required with the type ``tool_result``.
        content: A tool's result: text, blocks of text, or nothing.

    """

    model_config = ConfigDict(extra="ignore", strict=True, json_schema_extra=_describe_types)

    type: str = Field(max_length=64)
    text: str | None = None
    thinking: str | None = None
    id: str | None = Field(default=None, min_length=1, max_length=256)
    name: str | None = Field(default=None, min_length=1, max_length=128)
    input: dict[str, Any] | None = None
    tool_use_id: str | None = Field(default=None, min_length=1, max_length=256)
    content: Blocks | None = None
    is_error: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_tools_have_content(cls, block: object) -> object:
        """Removes `content` from other blocks, whose type is what gets refused."""
        if not isinstance(block, dict) or block.get("type") == "tool_result":
            return block
        return {name: value for name, value in block.items() if name != "content"}


_BlockList = Annotated[list[BlockIn], Field(max_length=MAX_PARTS, fail_fast=True)]
Blocks = Annotated[_BlockList, BeforeValidator(_as_blocks, json_schema_input_type=str | _BlockList)]
#: A block with its path in the body.
LocatedBlock = tuple[str, BlockIn]


class AnthropicMessageIn(BaseModel):
    """
    One message of the conversation.

    Args:
        role: Claude Code sends ``system`` in the middle of a conversation.

    """

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["user", "assistant", "system"]
    content: Blocks

    def to_messages(self, path: str, model: str) -> Iterator[Message]:
        """
        Yields a message for each tool result, then one for the user's text.

        Args:
            path: Its path in the body, for error texts.
            model: The requested model, for error texts.

        Raises:
            InvalidRequestError: A block lacks a field, or its type does not fit the role.
            UnsupportedFeatureError: A block is no text, such as an image.

        """
        role = Role(self.role)
        blocks = _checked(self.content, role, f"{path}.content", model)
        if role is Role.ASSISTANT:
            yield _assistant_message(blocks)
            return
        results = [(at, block) for at, block in blocks if block.type == "tool_result"]
        for at, block in results:
            yield _tool_message(block, at, model)
        if len(results) < len(blocks) or not blocks:
            yield Message(role, _system_text(blocks) if role is Role.SYSTEM else _text_of(blocks))


def system_of(blocks: list[BlockIn] | None, model: str) -> Iterator[Message]:
    """
    Yields the message of the field ``system``, if it has text.

    Raises:
        InvalidRequestError: A block is no text.
        UnsupportedFeatureError: A block is unknown here.

    """
    if text := _system_text(_checked(blocks or (), Role.SYSTEM, "system", model)):
        yield Message(Role.SYSTEM, text)


def _checked(blocks: Iterable[BlockIn], role: Role, path: str, model: str) -> list[LocatedBlock]:
    placed = [(f"{path}.{n}", block) for n, block in enumerate(blocks)]
    for at, block in placed:
        _check(block, role, at, model)
    return placed


def _check(block: BlockIn, role: Role, at: str, model: str) -> None:
    if block.type in {"image", "document"}:
        raise UnsupportedFeatureError(
            f"Multimodal is not supported for model: {model} ({at} has the type "
            f"{brief(block.type)}; right would be 'text')",
            param=at,
        )
    right = ", ".join(sorted(_TYPES_OF[role]))
    if block.type not in _KNOWN_TYPES:
        raise UnsupportedFeatureError(
            f"{at}.type: {brief(block.type)} is not offered here; right would be one of: {right}",
            param=f"{at}.type",
        )
    if block.type not in _TYPES_OF[role]:
        raise InvalidRequestError(
            f"{at}.type: {brief(block.type)} does not go with the role '{role}'; right would be "
            f"one of: {right}",
            param=f"{at}.type",
        )
    for name in _REQUIRED.get(block.type, ()):
        if getattr(block, name) is None:
            raise InvalidRequestError(f"{at}.{name}: Field required", param=f"{at}.{name}")


def _assistant_message(blocks: Iterable[LocatedBlock]) -> Message:
    placed = list(blocks)
    return Message(
        Role.ASSISTANT,
        _text_of(placed),
        reasoning="".join(b.thinking or "" for _, b in placed if b.type == "thinking"),
        tool_calls=tuple(_call_of(block, at) for at, block in placed if block.type == "tool_use"),
    )


def _call_of(block: BlockIn, at: str) -> ToolCall:
    arguments = json_text(block.input, param=f"{at}.input")
    return ToolCall(block.id or "", block.name or "", arguments)


def _tool_message(block: BlockIn, at: str, model: str) -> Message:
    text = _text_of(_checked(block.content or (), Role.TOOL, f"{at}.content", model))
    # Chat templates can express a failure only in the text.
    content = f"Error: {text}" if block.is_error else text
    return Message(Role.TOOL, content, tool_call_id=block.tool_use_id)


def _system_text(blocks: Iterable[LocatedBlock]) -> str:
    return _text_of(
        (at, block)
        for at, block in blocks
        if block.text and not block.text.startswith(BILLING_HEADER)
    )


def _text_of(blocks: Iterable[LocatedBlock]) -> str:
    return "".join(block.text or "" for _, block in blocks if block.type == "text")
