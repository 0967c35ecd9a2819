"""A loaded model's words: conversations to tokens, and tokens back to words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.chat import (
    ChatRequest,
    Effort,
    Message,
    Role,
    TextRequest,
    Tool,
    ToolMode,
)
from stillhouse.clock import Clock
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    UnsupportedFeatureError,
)
from stillhouse.models.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from stillhouse.models.continuation import Beginning, beginning_of, continuation
from stillhouse.models.dialects import DIALECTS
from stillhouse.models.dialects.base import Dialect, MarkIds, opens_in_reasoning
from stillhouse.models.grammar import grammar_of, tools_grammar
from stillhouse.models.model_spec import ModelSpec
from stillhouse.models.reply import Reply
from stillhouse.models.template import ChatTemplate
from stillhouse.models.tokenizer import Segment, Tokenizer
from stillhouse.models.tool_calls.reader import ToolCallReader


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    What is to be continued, as the engine takes it.

    Args:
        opens_in_reasoning: The answer starts inside the reasoning that the prompt has opened.
        is_continuation: It ends in words of the assistant's own, thoughts or content.
        is_raw: It was no conversation: the answer is one text, with nothing split off.
        text: What a raw prompt reads.

    """

    token_ids: list[int]
    opens_in_reasoning: bool
    is_continuation: bool = False
    is_raw: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Constraint:
    """
    What the answer must be, to the letter.

    Args:
        grammar: As llguidance reads it; not compiled yet.
        after_token_id: It binds what follows the first such token; None: the whole answer.
        param: The request's field that asks for it.

    """

    grammar: str
    after_token_id: int | None
    param: str


class ChatModel:
    """
    A loaded model's words: conversations to tokens, and tokens back to words.

    Holds no state of any request, so that one serves all, from any thread. Tools can be offered
    to it where `supports_tools` says so: its dialect knows how it calls them, and its chat
    template renders calls and what came of them.
    """

    def __init__(self, spec: ModelSpec, checkpoint: Checkpoint, clock: Clock | None) -> None:
        self.spec = spec
        self.checkpoint_path = checkpoint.path
        self.context_length = min(
            checkpoint.context_length, spec.context_length or checkpoint.context_length
        )
        self._dialect = DIALECTS[spec.dialect]
        source = str(checkpoint.path / "tokenizer.json")
        self._tokenizer = Tokenizer(checkpoint.tokenizer_json, source=source)
        self._longest_token_bytes = max(map(len, self._tokenizer.token_bytes.values()))
        self._longest_raw_token = max(
            self._longest_token_bytes, *map(len, self._tokenizer.added_tokens)
        )
        self._marks = _mark_ids(self._dialect, self._tokenizer, source=source)
        reasoning = self._dialect.reasoning
        self._inline_marks = reasoning.marks if reasoning and spec.reasoning_in_content else None
        self._call_marks = _call_marks(self._dialect, self._tokenizer)
        # Without tools in a request, what looks like a call is content.
        self._shown_bytes = {
            **self._tokenizer.token_bytes,
            **{token_id: mark.encode() for token_id, mark in self._call_marks.items()},
        }
        self._added_bytes = {
            token.id: token.content.encode() for token in self._tokenizer.added_tokens.values()
        }
        self._bos = _bos(checkpoint, self._tokenizer)
        self.stop_token_ids = _stop_token_ids(checkpoint, self._tokenizer)
        self._template = ChatTemplate(
            checkpoint.chat_template,
            name=checkpoint.chat_template_source,
            special_tokens=checkpoint.special_tokens,
            clock=clock,
        )
        can_describe = self._template.writes_tools or self._dialect.describe_tools is not None
        self.supports_tools = (
            self._dialect.call_form is not None and self._template.writes_calls and can_describe
        )

    @classmethod
    def load(
        cls, spec: ModelSpec, *, clock: Clock | None = None, base_dir: Path | None = None
    ) -> ChatModel:
        """
        Read what turns words into tokens and back; the weights are the engine's business.

        Args:
            clock: For templates that write the date; None refuses those.
            base_dir: Where a relative checkpoint path starts; None: the working directory.

        Raises:
            ConfigError: The catalogue entry names no checkpoint.
            CheckpointError: Files are missing or not what they should be.

        """
        if spec.checkpoint is None:
            raise ConfigError(
                f'models."{spec.id}".checkpoint is missing; right would be the folder of its files'
            )
        path = find_checkpoint(spec.checkpoint, base_dir=base_dir)
        return cls(spec, read_checkpoint(path), clock)

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that leaves room for one token of an answer."""
        return self.context_length - 1

    def encode(self, request: ChatRequest | TextRequest) -> Prompt:
        """
        The prompt that asks for the next answer; nothing is ever cut off silently.

        Takes some milliseconds per thousand tokens, mostly outside of the interpreter's lock.

        Raises:
            ContextLengthError: The prompt is longer than `max_prompt_tokens`.
            InvalidRequestError: The template refuses the conversation; or the prompt is empty, or
                holds what is no text or no token.
            UnsupportedFeatureError: The model has no words for what is asked.
            CheckpointError: The template fails.

        """
        if isinstance(request, TextRequest):
            return self._encode_text(request)
        tools = _offered_tools(request)
        self._check(request, tools)
        segments = self._segments(request, tools)
        token_ids = self._tokenizer.encode(segments)
        self._check_length(len(token_ids))
        reasoning = self._dialect.reasoning
        return Prompt(
            token_ids,
            opens_in_reasoning=(
                reasoning is not None and opens_in_reasoning(segments, reasoning.marks)
            ),
            is_continuation=(
                request.messages[-1].role is Role.ASSISTANT and _ends_in_request_text(segments)
            ),
        )

    def constraint(self, request: ChatRequest | TextRequest, prompt: Prompt) -> Constraint | None:
        """
        What the answer's form is bound to; None where it is free.

        Raises:
            InvalidRequestError: A schema or regular expression is beyond what is allowed.
            UnsupportedFeatureError: The model cannot be bound so.

        """
        calls = self._calls_grammar(request) if isinstance(request, ChatRequest) else None
        if calls is not None:
            return self._constraint(calls, prompt, param="tools")
        if request.response_format is not None:
            return self._constraint(
                grammar_of(request.response_format), prompt, param="response_format"
            )
        return None

    def _calls_grammar(self, request: ChatRequest) -> str | None:
        form = self._dialect.call_form
        if form is None:
            return None
        tools = _offered_tools(request)
        return tools_grammar(tools, request.tool_choice, form, self._tokenizer.id_of)

    def _constraint(self, grammar: str, prompt: Prompt, *, param: str) -> Constraint:
        close_id = self._marks.close if self._marks and prompt.opens_in_reasoning else None
        return Constraint(grammar, after_token_id=close_id, param=param)

    def reply(
        self,
        prompt: Prompt,
        request: ChatRequest | TextRequest,
        *,
        request_id: str,
        choice: int = 0,
    ) -> Reply:
        """
        A decoder for one answer to *prompt*.

        Args:
            request_id: Ids of tool calls are derived from it, so that a replay has the same ones.
            choice: Which of the request's answers, from 0.

        Raises:
            InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

        """
        if isinstance(request, TextRequest):
            return Reply(
                self._tokenizer.raw_token_bytes,
                marks=None,
                in_reasoning=False,
                stop=request.stop,
                stop_token_ids=request.stop_token_ids,
                choice=choice,
                added_bytes=self._added_bytes,
                echo=prompt.text if request.echo else "",
            )
        return Reply(
            self._shown_bytes,
            marks=self._marks,
            in_reasoning=prompt.opens_in_reasoning,
            is_continuation=prompt.is_continuation,
            stop=request.stop,
            stop_token_ids=request.stop_token_ids,
            choice=choice,
            added_bytes=self._added_bytes,
            reasoning_in_content=self._inline_marks,
            calls=self._call_reader(request, f"{request_id}/{choice}"),
        )

    def _call_reader(self, request: ChatRequest, reply_id: str) -> ToolCallReader | None:
        form, tools = self._dialect.call_form, _offered_tools(request)
        if form is None or not tools:
            return None
        return ToolCallReader(
            form,
            marks=self._call_marks,
            names=frozenset(tool.name for tool in tools),
            call_id=partial(_call_id, reply_id),
            max_calls=None if request.tool_choice.is_parallel else 1,
        )

    def _segments(self, request: ChatRequest, tools: Sequence[Tool]) -> list[Segment]:
        """The rendered prompt, up to where the model goes on by itself."""
        earlier, last = _final(request.messages)
        reasoning = self._dialect.reasoning
        beginning = Beginning(content=last.content) if last else Beginning()
        if reasoning and last:
            beginning = beginning_of(last, reasoning.marks)
        thinks = self._thinks(request, tools, beginning)
        segments = self._render(earlier, tools, thinks=thinks)
        if reasoning is None:
            return [*segments, Segment(beginning.content, is_template=False)]
        must_open = _is_bound(request, tools)
        return segments + continuation(
            segments, reasoning, beginning, thinks=thinks, must_open=must_open
        )

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool
    ) -> list[Segment]:
        history = [
            self._dialect.history(message) if message.role is Role.ASSISTANT else message
            for message in messages
        ]
        variable = self._dialect.reasoning.variable if self._dialect.reasoning else None
        variables = {variable: thinks} if variable else {}
        if not tools or self._template.writes_tools:
            return self._template.render(history, tools=tools, variables=variables)
        assert self._dialect.describe_tools is not None
        preface = self._dialect.describe_tools(tools)
        return self._template.render(history, preface=preface, variables=variables)

    def _thinks(self, request: ChatRequest, tools: Sequence[Tool], beginning: Beginning) -> bool:
        reasoning = self._dialect.reasoning
        if reasoning is None:  # and whatever effort is asked for: DeepInfra ignores it then
            return False
        is_asked = request.effort not in (None, Effort.NONE)
        if tools and not reasoning.goes_with_tools:
            if is_asked:
                raise InvalidRequestError(
                    f"{self.spec.id} calls tools only without reasoning; right would be no "
                    'reasoning_effort, or "none"',
                    param="reasoning_effort",
                )
            return False
        if request.effort is not None:
            return is_asked
        return reasoning.is_on or bool(beginning.thoughts)

    def _encode_text(self, request: TextRequest) -> Prompt:
        prompt = request.prompt
        if isinstance(prompt, str):
            token_ids, text = self._ids_of(prompt), prompt
        else:
            token_ids, text = self._known_ids(prompt), self._tokenizer.text_of(prompt)
        if not token_ids:
            raise InvalidRequestError("prompt is empty; it needs a token", param="prompt")
        self._check_length(len(token_ids), param="prompt")
        return Prompt(token_ids, opens_in_reasoning=False, is_raw=True, text=text)

    def _ids_of(self, text: str) -> list[int]:
        self._check_least_tokens(len(text) // self._longest_raw_token, param="prompt")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"prompt holds half of a surrogate pair at character {error.start}; right would "
                "be whole characters",
                param="prompt",
            ) from error
        bos = "" if text.startswith(self._bos) else self._bos
        return self._tokenizer.encode([Segment(bos + text, is_template=True)])

    def _known_ids(self, token_ids: Sequence[int]) -> list[int]:
        self._check_least_tokens(len(token_ids), param="prompt")
        known = self._tokenizer.token_bytes
        for index, token_id in enumerate(token_ids):
            if token_id not in known:
                raise InvalidRequestError(
                    f"prompt[{index}] is {token_id}; right would be a token id of the model, from "
                    f"0 to {max(known)}",
                    param="prompt",
                )
        return list(token_ids)

    def _check(self, request: ChatRequest, tools: Sequence[Tool]) -> None:
        messages = request.messages
        if not messages:
            raise InvalidRequestError(
                "messages is empty; it needs at least one message", param="messages"
            )
        self._check_final(request)
        self._check_tools(request, tools)
        # What cannot fit even if every token were the longest there is, is refused untokenised.
        num_chars = sum(map(_num_chars, messages)) + sum(map(_num_chars_of_tool, tools))
        self._check_least_tokens(max(num_chars // self._longest_token_bytes, len(messages)))

    def _check_final(self, request: ChatRequest) -> None:
        earlier, last = _final(request.messages)
        if last is None:
            return
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
        if last.content and request.response_format is not None:
            raise InvalidRequestError(
                "response_format is for whole answers, and the last message is the beginning of "
                "one; leave either out",
                param="response_format",
            )

    def _check_tools(self, request: ChatRequest, tools: Sequence[Tool]) -> None:
        messages = request.messages
        if self.supports_tools:
            is_free = request.tool_choice.mode is ToolMode.AUTO
            if tools and is_free and request.response_format is not None:
                raise InvalidRequestError(
                    "response_format leaves no room for tool calls; right would be either, or "
                    'tool_choice "none" or "required"',
                    param="response_format",
                )
            return
        has_calls = any(m.tool_calls or m.role is Role.TOOL for m in messages)
        if tools or has_calls:
            raise UnsupportedFeatureError(
                f"Tool calling is not supported for model: {self.spec.id}",
                param="tools" if tools else "messages",
            )

    def _check_least_tokens(self, num_tokens: int, *, param: str = "messages") -> None:
        self._check_length(num_tokens, param=param, is_lower_bound=True)

    def _check_length(
        self, num_tokens: int, *, param: str = "messages", is_lower_bound: bool = False
    ) -> None:
        if num_tokens > self.max_prompt_tokens:
            error = ContextLengthError(
                prompt_tokens=num_tokens,
                max_prompt_tokens=self.max_prompt_tokens,
                is_lower_bound=is_lower_bound,
            )
            error.param = param
            raise error


def _offered_tools(request: ChatRequest) -> Sequence[Tool]:
    """A model that is not to call tools is not told of any, so that it cannot."""
    return () if request.tool_choice.mode is ToolMode.NONE else request.tools


def _is_bound(request: ChatRequest, tools: Sequence[Tool]) -> bool:
    """Whether the answer, after any reasoning, will be held to a form."""
    if request.response_format is not None:
        return True
    is_required = request.tool_choice.mode is ToolMode.REQUIRED
    return bool(tools) and (is_required or any(tool.is_strict for tool in tools))


def _final(messages: Sequence[Message]) -> tuple[Sequence[Message], Message | None]:
    """The conversation so far, and the assistant's message that is to be continued."""
    if messages and messages[-1].role is Role.ASSISTANT:
        return messages[:-1], messages[-1]
    return messages, None


def _ends_in_request_text(segments: Sequence[Segment]) -> bool:
    last = next((segment for segment in reversed(segments) if segment.text), None)
    return last is not None and not last.is_template


def _num_chars(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + calls


def _num_chars_of_tool(tool: Tool) -> int:
    schema = json.dumps(tool.parameters, ensure_ascii=False, separators=(",", ":"))
    return len(tool.name) + len(tool.description) + len(schema)


def _mark_ids(dialect: Dialect, tokenizer: Tokenizer, *, source: str) -> MarkIds | None:
    if dialect.reasoning is None:
        return None
    marks = dialect.reasoning.marks
    open_id, close_id = tokenizer.id_of(marks.open), tokenizer.id_of(marks.close)
    if open_id is None or close_id is None:
        raise CheckpointError(
            f"{source}: dialect {dialect.name} needs the added tokens {marks.open} and "
            f"{marks.close}"
        )
    return MarkIds(open=open_id, close=close_id)


def _call_marks(dialect: Dialect, tokenizer: Tokenizer) -> dict[int, str]:
    """Those marks of the dialect's tool calls that are one token each, by their ids."""
    marks = dialect.call_form.marks if dialect.call_form else ()
    ids = ((tokenizer.id_of(mark), mark) for mark in marks)
    return {token_id: mark for token_id, mark in ids if token_id is not None}


def _call_id(reply_id: str, index: int) -> str:
    """The same for a replay, and like no other: OpenAI's shape of 24 letters and digits."""
    digest = hashlib.sha256(f"{reply_id}/{index}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _bos(checkpoint: Checkpoint, tokenizer: Tokenizer) -> str:
    """What the tokenizer's own configuration puts before a text; empty if nothing."""
    if checkpoint.adds_bos is None:
        return "".join(tokenizer.prefix)
    return checkpoint.special_tokens.get("bos_token", "") if checkpoint.adds_bos else ""


def _stop_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, ...]:
    if checkpoint.end_token_ids:
        return checkpoint.end_token_ids
    end_id = tokenizer.id_of(checkpoint.special_tokens.get("eos_token", ""))
    if end_id is None:
        raise CheckpointError(
            f"{checkpoint.path}: no file names an end token; right would be eos_token_id in "
            "generation_config.json"
        )
    return (end_id,)
