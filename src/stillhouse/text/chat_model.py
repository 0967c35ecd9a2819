"""A loaded model's words: conversations to tokens, and tokens back to words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from stillhouse.checkpoints.checkpoint import Checkpoint
from stillhouse.clock import Clock
from stillhouse.errors import ContextLengthError, InvalidRequestError
from stillhouse.text.families import FAMILIES
from stillhouse.text.grammar.constraints import format_constraint, tool_call_constraint
from stillhouse.text.grammar.grammar import write_grammar
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.text.prompt.conversation import ConversationWriter, offered_tools
from stillhouse.text.prompt.template import ChatTemplate
from stillhouse.text.special_tokens import bos, call_tags, stop_token_ids, tag_ids
from stillhouse.text.tokenizer import Segment, Tokenizer
from stillhouse.types.constraint import Constraint, PortableConstraint
from stillhouse.types.messages import Message, Tool
from stillhouse.types.requests import ChatRequest, TextRequest

#: A prompt with more characters for each token that it may have is looked at in pieces first.
_USUAL_CHARS_PER_TOKEN = 6
_PIECE_CHARS = 1 << 16
_MOST_CUT_TOKENS = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModelSettings:
    """
    Settings of a chat model that its checkpoint does not hold.

    Args:
        model_id: For messages.
        family: The name of an entry of `FAMILIES`.
        context_length: The most tokens of prompt and answer together; None takes the checkpoint's.
        reasoning_in_content: Writes reasoning into the content, between its tags, as DeepInfra did
            before August 2025; otherwise it is separate.

    """

    model_id: str
    family: str
    context_length: int | None = None
    reasoning_in_content: bool = False


class ChatModel:
    """
    A loaded model's words: conversations to tokens, and tokens back to words.

    Holds no state of any request, so that one serves all, from any thread.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: ChatModelSettings, *, clock: Clock | None = None
    ) -> None:
        self.model_id = settings.model_id
        self.checkpoint_path = checkpoint.path
        self.context_length = min(
            checkpoint.context_length, settings.context_length or checkpoint.context_length
        )
        self._family = FAMILIES[settings.family]
        self._tokenizer = Tokenizer(checkpoint.tokenizer_json)
        self._longest_token_bytes = max(map(len, self._tokenizer.token_bytes.values()))
        self._longest_raw_token = max(
            self._longest_token_bytes, *map(len, self._tokenizer.added_tokens)
        )
        self._tags = tag_ids(self._family, self._tokenizer, source=checkpoint.tokenizer_json.source)
        reasoning = self._family.reasoning
        self._inline_tags = reasoning.tags if reasoning and settings.reasoning_in_content else None
        self._call_tags = call_tags(self._family, self._tokenizer)
        # Without tools in a request, what looks like a call is content.
        self._shown_bytes = {
            **self._tokenizer.token_bytes,
            **{token_id: tag.encode() for token_id, tag in self._call_tags.items()},
        }
        self._added_bytes = {
            token.id: token.content.encode() for token in self._tokenizer.added_tokens.values()
        }
        self._bos = bos(checkpoint, self._tokenizer)
        self.stop_token_ids = stop_token_ids(checkpoint, self._tokenizer)
        template = ChatTemplate(
            checkpoint.chat_template,
            name=checkpoint.chat_template_source,
            special_tokens=checkpoint.special_tokens,
            clock=clock,
        )
        self._conversations = ConversationWriter(template, self._family, model_id=settings.model_id)

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that leaves room for one token of an answer."""
        return self.context_length - 1

    @property
    def supports_tools(self) -> bool:
        """Whether a request may offer the model tools, and hold calls and results of them."""
        return self._conversations.supports_tools

    def encode_prompt(self, request: ChatRequest | TextRequest) -> Prompt:
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
        self._check_known(request.stop_token_ids, param="stop_token_ids")
        self._check_known([id_ for id_, _ in request.sampling.logit_bias], param="logit_bias")
        if isinstance(request, TextRequest):
            return self._encode_text(request)
        self._conversations.check(request)
        self._check_least_tokens(self._least_tokens(request))
        rendered = self._conversations.write(request)
        self._check_in_pieces(rendered.segments)
        token_ids = self._tokenizer.encode(rendered.segments)
        self._check_length(len(token_ids))
        return Prompt(
            token_ids,
            opens_in_reasoning=rendered.opens_in_reasoning,
            is_continuation=rendered.is_continuation,
        )

    def constraint(self, request: ChatRequest | TextRequest, prompt: Prompt) -> Constraint | None:
        """
        Returns the constraint that the request puts on its answers; None where there is none.

        Raises:
            InvalidRequestError: A schema or regular expression is beyond what is allowed.

        """
        portable = self._portable_constraint(request)
        if portable is None:
            return None
        return Constraint(
            portable,
            write_grammar(portable, self._tokenizer.id_of),
            after_token_id=self._tags.close if self._tags and prompt.opens_in_reasoning else None,
        )

    def _portable_constraint(self, request: ChatRequest | TextRequest) -> PortableConstraint | None:
        form, format_ = self._family.call_form, request.response_format
        if isinstance(request, ChatRequest) and form is not None:
            tools = offered_tools(request)
            calls = tool_call_constraint(tools, request.tool_choice, form, text_format=format_)
            if calls is not None:
                return calls
        return format_constraint(format_) if format_ is not None else None

    def output_parser(
        self,
        prompt: Prompt,
        request: ChatRequest | TextRequest,
        *,
        request_id: str,
        choice: int = 0,
    ) -> OutputParser:
        """
        A decoder for one answer to *prompt*.

        Args:
            request_id: Ids of tool calls are derived from it, so that a replay has the same ones.
            choice: Which of the request's answers, from 0.

        Raises:
            InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

        """
        if isinstance(request, TextRequest):
            return OutputParser(
                self._tokenizer.raw_token_bytes,
                tags=None,
                in_reasoning=False,
                stop=request.stop,
                stop_token_ids=request.stop_token_ids,
                choice=choice,
                added_bytes=self._added_bytes,
                echo=prompt.text if request.echo else "",
            )
        return OutputParser(
            self._shown_bytes,
            tags=self._tags,
            in_reasoning=prompt.opens_in_reasoning,
            is_continuation=prompt.is_continuation,
            stop=request.stop,
            stop_token_ids=request.stop_token_ids,
            choice=choice,
            added_bytes=self._added_bytes,
            reasoning_in_content=self._inline_tags,
            calls=self._call_reader(request, f"{request_id}/{choice}"),
        )

    def _call_reader(self, request: ChatRequest, answer_id: str) -> ToolCallReader | None:
        form, tools = self._family.call_form, offered_tools(request)
        if form is None or not tools:
            return None
        return ToolCallReader(
            form,
            tags=self._call_tags,
            names=frozenset(tool.name for tool in tools),
            call_id=partial(_call_id, answer_id),
            max_calls=None if request.tool_choice.is_parallel else 1,
        )

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
        segments = [Segment(bos + text, is_template=True)]
        self._check_in_pieces(segments, param="prompt")
        return self._tokenizer.encode(segments)

    def _known_ids(self, token_ids: Sequence[int]) -> list[int]:
        self._check_least_tokens(len(token_ids), param="prompt")
        self._check_known(token_ids, param="prompt")
        return list(token_ids)

    def _check_known(self, token_ids: Sequence[int], *, param: str) -> None:
        known = self._tokenizer.token_bytes
        for token_id in token_ids:
            if token_id not in known:
                raise InvalidRequestError(
                    f"{param} names the token {token_id}; right would be token ids of the model, "
                    f"from 0 to {max(known)}",
                    param=param,
                )

    def _least_tokens(self, request: ChatRequest) -> int:
        """What cannot fit even if every token were the longest there is, is refused untokenised."""
        num_chars = sum(map(_num_chars, request.messages))
        num_chars += sum(map(_num_chars_of_tool, offered_tools(request)))
        return max(num_chars // self._longest_token_bytes, len(request.messages))

    def _check_least_tokens(self, num_tokens: int, *, param: str = "messages") -> None:
        self._check_length(num_tokens, param=param, is_lower_bound=True)

    def _check_in_pieces(self, segments: Sequence[Segment], *, param: str = "messages") -> None:
        """
        Refuse what is far too long once enough of it has been tokenised, piece by piece.

        Seven MiB at once take seconds and most of a gigabyte. Each cut adds a few tokens, and there
        is one in some ten thousand: what goes over the limit by a quarter is over it uncut.
        """
        most = self.max_prompt_tokens
        if sum(len(segment.text) for segment in segments) <= _USUAL_CHARS_PER_TOKEN * most:
            return
        num_tokens = 0
        for piece in _pieces(segments):
            num_tokens += len(self._tokenizer.encode(piece))
            if num_tokens > most + most // 4 + _MOST_CUT_TOKENS:
                self._check_least_tokens(num_tokens * 4 // 5, param=param)

    def _check_length(
        self, num_tokens: int, *, param: str = "messages", is_lower_bound: bool = False
    ) -> None:
        if num_tokens > self.max_prompt_tokens:
            raise ContextLengthError(
                prompt_tokens=num_tokens,
                max_prompt_tokens=self.max_prompt_tokens,
                is_lower_bound=is_lower_bound,
                param=param,
            )


def _pieces(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Cut long segments and group short ones, so that only a cut changes how they are tokenised."""
    piece: list[Segment] = []
    num_chars = 0
    for segment in segments:
        for begin in range(0, len(segment.text), _PIECE_CHARS):
            text = segment.text[begin : begin + _PIECE_CHARS]
            piece.append(Segment(text, is_template=segment.is_template))
            num_chars += len(text)
            if num_chars >= _PIECE_CHARS:
                yield piece
                piece, num_chars = [], 0
    if piece:
        yield piece


def _call_id(answer_id: str, index: int) -> str:
    """The same for a replay, and like no other: OpenAI's shape of 24 letters and digits."""
    digest = hashlib.sha256(f"{answer_id}/{index}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _num_chars(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + calls


def _num_chars_of_tool(tool: Tool) -> int:
    schema = json.dumps(tool.parameters, ensure_ascii=False, separators=(",", ":"))
    return len(tool.name) + len(tool.description) + len(schema)
