"""A chat template rendered so that request text stays apart from the template's own."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NoReturn

import jinja2

from stillhouse.chat import Message, Role
from stillhouse.clock import Clock
from stillhouse.errors import CheckpointError, InvalidRequestError
from stillhouse.models.sandbox import BUDGET_KEY, Budget, TemplateSandbox, bounded
from stillhouse.models.tokenizer import Segment

MAX_SOURCE_CHARS = 1 << 17  # the longest in use, for tools, have some 20 000
STEPS, STEPS_PER_MESSAGE = 20_000, 100  # the templates in use take some 10 per message
CHARS, CHARS_PER_MESSAGE = 1 << 16, 1 << 10
OPEN, CLOSE = "\x02", "\x03"
PLACEHOLDER = re.compile(f"{OPEN}([^:{OPEN}{CLOSE}]*):([0-9]{{1,9}}){CLOSE}")
MAX_DATE_FORMAT_CHARS = 64


class ChatTemplate:
    """
    A checkpoint's chat template, rendered so that request text stays apart from its own.

    The template never sees what was said: each text is stood for by an unguessable placeholder
    with the text's own outer white space around it, so that ``| trim`` still works. What the
    template does with placeholders is checked afterwards, and anything but writing each of them
    out whole is refused. Only control characters delimit them, because those do not survive
    `tojson` or any other escaping.

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

    def render(self, messages: Sequence[Message]) -> list[Segment]:
        """
        The prompt that asks for the next answer, in order.

        Raises:
            InvalidRequestError: The template refuses the conversation, or leaves part of it out.
            CheckpointError: The template fails, or does something else to a text than write it.

        """
        nonce = secrets.token_urlsafe(16)
        variables = self._special_tokens | {
            "messages": [_hidden(message, nonce, n) for n, message in enumerate(messages)],
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            BUDGET_KEY: Budget(
                STEPS + STEPS_PER_MESSAGE * len(messages), steps_per_round=self._steps_per_round
            ),
        }
        max_chars = CHARS + CHARS_PER_MESSAGE * len(messages)
        try:
            text = bounded(self._template.generate(variables), max_chars=max_chars)
        except _RefusedByTemplateError as refusal:
            raise InvalidRequestError(
                f"The model's chat template refuses this conversation: {refusal}",
                param="messages",
            ) from refusal
        except _FAILURES as error:
            raise self._broken(error) from error
        return self._segments(text, messages, nonce)

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

    def _segments(self, text: str, messages: Sequence[Message], nonce: str) -> list[Segment]:
        """Template text and request text in turn, once every placeholder is accounted for."""
        template_texts, nonces, numbers = _take_apart(text)
        are_ours = set(nonces) <= {nonce} and max(numbers, default=0) < len(messages)
        if not are_ours or any(OPEN in part or CLOSE in part for part in template_texts):
            raise CheckpointError(f"{self._name}: changes or cuts the text of messages")
        self._check_complete(set(numbers), messages)
        segments = [Segment(template_texts[0], is_template=True)]
        for number, template_text in zip(numbers, template_texts[1:], strict=True):
            segments.append(Segment(messages[number].content.strip(), is_template=False))
            segments.append(Segment(template_text, is_template=True))
        return segments

    def _check_complete(self, written: set[int], messages: Sequence[Message]) -> None:
        for index, message in enumerate(messages):
            if index not in written and message.content.strip():
                raise InvalidRequestError(
                    f"The model's chat template has no place for messages[{index}] (role "
                    f"{message.role}) in this conversation; leave it out, or join it with another",
                    param="messages",
                )

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


def _take_apart(text: str) -> tuple[list[str], list[str], list[int]]:
    """What stands around placeholders, and each one's nonce and number."""
    parts = PLACEHOLDER.split(text)
    return parts[::3], parts[1::3], [int(number) for number in parts[2::3]]


def _hidden(message: Message, nonce: str, index: int) -> dict[str, str]:
    """The message as the template sees it, its words replaced by a placeholder."""
    content = message.content
    words = content.strip()
    before, _, after = content.partition(words) if words else (content, "", "")
    placeholder = f"{OPEN}{nonce}:{index}{CLOSE}" if words else ""
    return {"role": message.role.value, "content": f"{before}{placeholder}{after}"}
