"""A chat template rendered so that request text stays apart from the template's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError

from stillhouse.clock import Clock
from stillhouse.errors import CheckpointError, InvalidRequestError
from stillhouse.text.prompt.budget import BUDGET_KEY, Budget, bounded
from stillhouse.text.prompt.filters import JSON_KEY
from stillhouse.text.prompt.placeholders import FieldPath, PlaceholderMap
from stillhouse.text.prompt.sandbox import TemplateSandbox
from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message, Role, Tool, ToolCall

MAX_SOURCE_CHARS = 1 << 17  # the longest in use, for tools, have some 20 000
STEPS, STEPS_PER_MESSAGE = 20_000, 100  # the templates in use take some 10 per message
STEPS_PER_TOOL, STEPS_PER_TEXT = 1000, 10
CHARS, CHARS_PER_MESSAGE, CHARS_PER_TEXT = 1 << 16, 1 << 10, 1 << 7
MAX_DATE_FORMAT_CHARS = 64

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
TRIAL_TOOL = Tool(
    "get_weather",
    "Tells how the weather is.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where."}},
        "required": ["city"],
    },
)
TRIAL_CALL = ToolCall("call_1", "get_weather", '{"city": "Oslo"}')
TRIAL_CALLS = (
    Message(Role.USER, "How is the weather in Oslo?"),
    Message(Role.ASSISTANT, "", tool_calls=(TRIAL_CALL,)),
    Message(Role.TOOL, "It rains.", tool_call_id="call_1"),
)


class ChatTemplate:
    """
    A checkpoint's chat template, rendered so that request text stays apart from its own.

    The template never sees what was said: each text is stood for by an unguessable placeholder
    with the text's own outer white space around it, so that ``| trim`` still works. What the
    template does with placeholders is checked afterwards, and anything but writing each of them
    out whole, or as JSON, is refused.

    Args:
        source: The template.
        name: Where it stands, for messages.
        special_tokens: Variables such as ``bos_token``.
        clock: What `strftime_now` reads; None refuses templates that ask for the time.

    Raises:
        CheckpointError: Not a template that can be rendered here; says where and why.

    """

    def __init__(
        self,
        source: str,
        *,
        name: str,
        special_tokens: Mapping[str, str],
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._special_tokens = dict(special_tokens)
        self._steps_per_round = 1 + len(source) // 4096
        self._template = self._compile(source)
        self._try_out()
        self.writes_calls = self._can_render(TRIAL_CALLS)
        self.writes_tools = self._can_render(TRIAL_CALLS, tools=(TRIAL_TOOL,))

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        preface: Sequence[Segment] = (),
        variables: Mapping[str, object] | None = None,
    ) -> list[Segment]:
        """
        The prompt that asks for the next answer, in order.

        Args:
            tools: Functions for the template to describe.
            preface: A further system text, after those of the request.
            variables: Further variables of the template.

        Raises:
            InvalidRequestError: The template refuses the conversation, leaves part of it out, or
                fails on it.
            CheckpointError: The template does something else to a text than write it, or too much.

        """
        texts = PlaceholderMap()
        context = self._special_tokens | {
            **(variables or {}),
            "messages": _hidden_messages(messages, preface, texts),
            "add_generation_prompt": True,
            "tools": [_hidden_tool(tool, n, texts) for n, tool in enumerate(tools)] or None,
            "documents": None,
        }
        context[BUDGET_KEY] = Budget(
            STEPS
            + STEPS_PER_MESSAGE * len(messages)
            + STEPS_PER_TOOL * len(tools)
            + STEPS_PER_TEXT * texts.count,
            steps_per_round=self._steps_per_round,
        )
        context[JSON_KEY] = texts.as_json
        max_chars = CHARS + CHARS_PER_MESSAGE * len(messages) + CHARS_PER_TEXT * texts.count
        try:
            text = bounded(self._template.generate(context), max_chars=max_chars)
        except SecurityError as error:
            raise self._broken(error) from error
        except _RefusedByTemplateError as refusal:
            raise InvalidRequestError(
                f"The model's chat template refuses this conversation: {refusal}",
                param="messages",
            ) from refusal
        except _FAILURES as error:
            raise InvalidRequestError(
                "The model's chat template fails on this conversation with "
                f"{type(error).__name__}: {error}",
                param="messages",
            ) from error
        segments = texts.take_apart(text)
        if segments is None:
            raise CheckpointError(f"{self._name}: changes or cuts the text of messages")
        return segments

    def _compile(self, source: str) -> jinja2.Template:
        if len(source) > MAX_SOURCE_CHARS:
            raise CheckpointError(f"{self._name}: is longer than {MAX_SOURCE_CHARS} characters")
        functions = {"raise_exception": _raise_exception, "strftime_now": self._strftime_now}
        sandbox = TemplateSandbox(functions)
        try:
            code = sandbox.compile(sandbox.parse_metered(source))
        except jinja2.TemplateSyntaxError as error:
            raise CheckpointError(f"{self._name}: line {error.lineno}: {error.message}") from error
        except RecursionError as error:
            raise CheckpointError(f"{self._name}: is nested too deeply") from error
        return jinja2.Template.from_code(sandbox, code, sandbox.globals)

    def _try_out(self) -> None:
        """A template that cannot render the simplest conversation is found at start-up."""
        try:
            self.render([Message(Role.USER, "Hello!")])
        except InvalidRequestError as error:
            raise CheckpointError(f"{self._name}: {error.message}") from error

    def _can_render(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> bool:
        try:
            self.render(messages, tools=tools)
        except (InvalidRequestError, CheckpointError):
            return False
        return True

    def _strftime_now(self, date_format: str) -> str:
        if self._clock is None or len(date_format) > MAX_DATE_FORMAT_CHARS:
            raise jinja2.TemplateRuntimeError("strftime_now is not available")
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=UTC)
        return now.strftime(date_format)

    def _broken(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self._name}: fails with {type(error).__name__}: {error}")


class _RefusedByTemplateError(Exception):
    """The template called `raise_exception`."""


_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code of a template can raise."""


def _raise_exception(message: object) -> NoReturn:
    raise _RefusedByTemplateError(str(message))


def _hidden_messages(
    messages: Sequence[Message], preface: Sequence[Segment], texts: PlaceholderMap
) -> list[dict[str, Any]]:
    """The conversation in OpenAI's shape, as the template sees it."""
    hidden = [_hidden_message(message, index, texts) for index, message in enumerate(messages)]
    if preface:
        # Families that have one write it as if there were always a system text before it.
        after = [n + 1 for n, message in enumerate(messages) if message.role is Role.SYSTEM]
        content = texts.hide_segments(preface, FieldPath("tools"))
        further = [{"role": Role.SYSTEM.value, "content": content}]
        if not after:
            further.insert(0, {"role": Role.SYSTEM.value, "content": ""})
        position = max(after, default=0)
        hidden[position:position] = further
    return hidden


def _hidden_message(message: Message, index: int, texts: PlaceholderMap) -> dict[str, Any]:
    name = f"messages[{index}]"
    hidden: dict[str, Any] = {
        "role": message.role.value,
        "content": texts.hide(message.content, FieldPath(f"{name} (role {message.role})")),
    }
    if message.reasoning:
        path = FieldPath(f"{name}.reasoning_content", is_needed=False)
        hidden["reasoning_content"] = texts.hide(message.reasoning, path)
    if message.tool_calls:
        hidden["tool_calls"] = [
            _hidden_call(call, f"{name}.tool_calls[{number}]", texts)
            for number, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id is not None:
        path = FieldPath(f"{name}.tool_call_id", is_needed=False)
        hidden["tool_call_id"] = texts.hide(message.tool_call_id, path)
    return hidden


def _hidden_call(call: ToolCall, name: str, texts: PlaceholderMap) -> dict[str, Any]:
    arguments = call.arguments.strip() or "{}"
    return {
        "id": texts.hide(call.id, FieldPath(f"{name}.id", is_needed=False)),
        "type": "function",
        "function": {
            "name": texts.hide(call.name, FieldPath(f"{name}.function.name")),
            "arguments": texts.hide_json(arguments, FieldPath(f"{name}.function.arguments")),
        },
    }


def _hidden_tool(tool: Tool, index: int, texts: PlaceholderMap) -> dict[str, Any]:
    name = f"tools[{index}].function"
    parameters = NO_PARAMETERS if tool.parameters is None else tool.parameters
    return {
        "type": "function",
        "function": {
            "name": texts.hide(tool.name, FieldPath(f"{name}.name")),
            "description": texts.hide(tool.description, FieldPath(f"{name}.description")),
            "parameters": texts.hide_tree(parameters, FieldPath(f"{name}.parameters")),
        },
    }
