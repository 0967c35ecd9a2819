"""Converts OpenAI's messages and tools to those of `stillhouse.types.messages`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stillhouse.api.http.schema_extras import describe_required_fields
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, Tool, ToolCall, ToolChoice, ToolMode

MAX_PARTS = 1024
MAX_TOOL_CALLS = 128
TOOL_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class _In(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


_PART_NEEDS = (("text", ("text",)), ("refusal", ("refusal",)))
_MESSAGE_NEEDS = (
    *((role, ("content",)) for role in ("system", "developer", "user", "assistant")),
    ("assistant", ("tool_calls",)),
    ("tool", ("content", "tool_call_id")),
)


class Part(_In):
    """
    One part of a message that is given as a list.

    Args:
        type: ``text``, or an assistant's ``refusal``; any other is a 405.
        text: Required with the type ``text``.
        refusal: Required with the type ``refusal``.

    """

    model_config = ConfigDict(
        json_schema_extra=lambda schema: describe_required_fields(schema, "type", _PART_NEEDS)
    )

    type: str = Field(max_length=64)
    text: str | None = None
    refusal: str | None = None


_PartsIn = str | Annotated[list[Part], Field(max_length=MAX_PARTS)] | None


def _as_parts(content: object) -> object:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content or ""}]
    if isinstance(content, list):
        return content
    raise ValueError("should be a string or a list of text parts")


Parts = Annotated[
    list[Part],
    Field(max_length=MAX_PARTS, fail_fast=True),
    BeforeValidator(_as_parts, json_schema_input_type=_PartsIn),
]


class FunctionCallIn(_In):
    """The function of a tool call."""

    name: str = Field(pattern=TOOL_NAME)
    arguments: str = "{}"


class ToolCallIn(_In):
    """A tool call of an earlier response."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCallIn

    def to_tool_call(self) -> ToolCall:
        """Returns the call as a value of ``stillhouse.types``."""
        return ToolCall(self.id, self.function.name, self.function.arguments)


class MessageIn(_In):
    """
    One message of the request; every role may give its content as text parts.

    Args:
        role: ``developer`` is what OpenAI calls ``system`` for models that reason.
        content: Required, except from an assistant that calls tools.
        tool_calls: Allowed only with the role ``assistant``.
        tool_call_id: Required with the role ``tool``.
        reasoning: OpenRouter's name of `reasoning_content`.

    """

    model_config = ConfigDict(
        json_schema_extra=lambda schema: describe_required_fields(schema, "role", _MESSAGE_NEEDS)
    )

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Parts | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: (
        Annotated[list[ToolCallIn], Field(max_length=MAX_TOOL_CALLS, fail_fast=True)] | None
    ) = None
    tool_call_id: str | None = Field(default=None, max_length=256)

    def to_message(self, path: str, model: str) -> Message:
        """
        Returns the message with its parts joined.

        Args:
            path: Its path in the body, for error texts.
            model: The requested model, for error texts.

        Raises:
            InvalidRequestError: A field is missing, or does not fit the role.
            UnsupportedFeatureError: It has parts that are not text.

        """
        role = Role.SYSTEM if self.role == "developer" else Role(self.role)
        self._check(role, path)
        return Message(
            role,
            "".join(
                _text_of(part, f"{path}.content.{n}", model)
                for n, part in enumerate(self.content or ())
            ),
            reasoning=self.reasoning_content or self.reasoning or "",
            tool_calls=tuple(call.to_tool_call() for call in self.tool_calls or ()),
            tool_call_id=self.tool_call_id,
        )

    def _check(self, role: Role, path: str) -> None:
        if self.content is None and not (role is Role.ASSISTANT and self.tool_calls):
            raise InvalidRequestError(f"{path}.content: Field required", param=f"{path}.content")
        if self.tool_calls and role is not Role.ASSISTANT:
            raise InvalidRequestError(
                f"{path}.tool_calls: only an assistant calls tools, and the role is {self.role!r}",
                param=f"{path}.tool_calls",
            )
        if role is Role.TOOL and not self.tool_call_id:
            raise InvalidRequestError(
                f"{path}.tool_call_id: Field required with the role 'tool'",
                param=f"{path}.tool_call_id",
            )


def _text_of(part: Part, path: str, model: str) -> str:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None:
        return part.refusal
    if part.type in {"text", "refusal"}:
        raise InvalidRequestError(f"{path}.{part.type}: Field required", param=path)
    raise UnsupportedFeatureError(
        f"Multimodal is not supported for model: {model} ({path} has the type {part.type!r}; "
        "right would be 'text')",
        param=path,
    )


class FunctionIn(_In):
    """A function that the model may call."""

    name: str = Field(pattern=TOOL_NAME)
    description: str | None = Field(default=None, max_length=1 << 16)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolIn(_In):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionIn

    def to_tool(self) -> Tool:
        """Returns the tool as a value of ``stillhouse.types``."""
        function = self.function
        return Tool(
            name=function.name,
            description=function.description or "",
            parameters=function.parameters,
            is_strict=bool(function.strict),
        )


class NamedIn(_In):
    """The name of a function."""

    name: str


class NamedToolIn(_In):
    """A tool choice that names a function."""

    type: Literal["function"]
    function: NamedIn


def tool_choice_of(
    choice: str | NamedToolIn | None, tools: tuple[Tool, ...], *, is_parallel: bool
) -> ToolChoice:
    """
    Returns the choice as a value of ``stillhouse.types``.

    Raises:
        InvalidRequestError: It needs tools that are missing, or two tools share a name.

    """
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequestError("tools: each name must be there once", param="tools")
    if isinstance(choice, NamedToolIn):
        if choice.function.name not in names:
            raise InvalidRequestError(
                f"tool_choice: there is no tool {choice.function.name[:64]!r}; there are "
                f"{', '.join(names)[:256] or 'none'}",
                param="tool_choice",
            )
        return ToolChoice(ToolMode.REQUIRED, choice.function.name, is_parallel=is_parallel)
    mode = ToolMode(choice or ToolMode.AUTO)
    if mode is ToolMode.REQUIRED and not tools:
        raise InvalidRequestError(
            "tool_choice: 'required' needs at least one entry in tools", param="tool_choice"
        )
    return ToolChoice(mode, is_parallel=is_parallel)
