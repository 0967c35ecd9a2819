"""Defines the messages of a conversation, its tools and its tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stillhouse.types.json_object import JsonObject


class Role(StrEnum):
    """The role of a message's author."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    #: The result of a tool call.
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    A call that an assistant has made.

    Args:
        arguments: JSON text, as the model wrote it.

    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """
    A message of a conversation.

    Args:
        reasoning: The assistant's reasoning before its answer.
        tool_calls: The assistant's calls after its content.
        tool_call_id: The call that a tool's message is the result of.

    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """
    A function that the model may call.

    Args:
        parameters: JSON Schema of its arguments; None takes none.
        is_strict: Arguments are sampled under the schema, so that they cannot but fit it.

    """

    name: str
    description: str = ""
    parameters: JsonObject | None = None
    is_strict: bool = False


class ToolMode(StrEnum):
    """The rule by which an answer calls tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """
    The tools that an answer may or must call.

    Args:
        name: With `ToolMode.REQUIRED`: the only one.
        is_parallel: Whether it may call more than one.

    """

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None
    is_parallel: bool = True
