"""Parses one completion while it streams: reasoning, content, tool calls, stop strings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from stillhouse.text.families.base import ReasoningTagIds, ReasoningTags
from stillhouse.text.parsing.content import Content
from stillhouse.text.parsing.delta_buffer import DeltaBuffer
from stillhouse.text.parsing.logprob_collector import LogprobCollector
from stillhouse.text.parsing.reasoning import Reasoning
from stillhouse.text.parsing.text_span import TextSpan
from stillhouse.text.parsing.text_stream import TextStream
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.types.events import FinishReason, TextDelta
from stillhouse.types.logprobs import StepLogprobs

_NO_TOKEN = -1
_NO_BYTES: Mapping[int, bytes] = MappingProxyType({})


class OutputParser:
    """
    Parses one completion while it streams: reasoning, content, tool calls, stop strings.

    However the tokens are split over calls, the joined deltas are the same. The split between
    reasoning and content goes by token ids, never by text, so an answer that merely writes
    ``</think>`` letter by letter stays whole.

    An answer that ends by itself while it is still reasoning has skipped its closing tag, which
    R1 and its distills do: the start of the answer is unknown, and emitted reasoning cannot be
    taken back. `finish` therefore emits the text of that reasoning once more, as content, so that
    no client gets an empty answer. An answer that was cut off in its reasoning has no content
    yet, and none is emitted; its finish reason says why.

    Log probabilities are emitted for each token that wrote a character of the content, with
    that character; reasoning, calls, tags and what a stop string cuts off have none.

    Args:
        token_bytes: The text of each token id; nothing for control tokens.
        tags: Ids of the reasoning tags; None where the model has none.
        in_reasoning: The prompt has opened the reasoning.
        is_continuation: The prompt ends amid the reasoning or the content, so that newlines with
            which the answer starts are a part of it.
        stop: Strings that end the content; reasoning and tool calls may hold them.
        stop_token_ids: Tokens at which the engine ends the answer, so that they are no part of it,
            even where they are text; control tokens need not be among them.
        choice: Which of the request's answers it is, from 0.
        added_bytes: The text of each added token, which names it among log probabilities.
        echo: What the answer begins with, before anything is generated.
        reasoning_in_content: The tags between which reasoning is written into the content, as
            DeepInfra did before August 2025; None keeps it separate.
        calls: Reads the answer's tool calls; None takes their syntax for content.

    Raises:
        InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

    """

    def __init__(  # noqa: PLR0913  (given once, by ChatModel.output_parser)
        self,
        token_bytes: Mapping[int, bytes],
        *,
        tags: ReasoningTagIds | None,
        in_reasoning: bool,
        is_continuation: bool = False,
        stop: Sequence[str],
        stop_token_ids: Collection[int] = (),
        choice: int = 0,
        added_bytes: Mapping[int, bytes] = _NO_BYTES,
        echo: str = "",
        reasoning_in_content: ReasoningTags | None = None,
        calls: ToolCallReader | None = None,
    ) -> None:
        self.choice = choice
        self.reasoning_tokens = 0
        self._token_bytes = token_bytes
        self._stream = TextStream(token_bytes)
        self._buffer = DeltaBuffer()
        # Only after reasoning are newlines an artefact; a plain model's are its own.
        self._content = Content(self._buffer, trims_start=tags is not None, stop=stop, calls=calls)
        self._call_tags = calls.tags if calls else {}
        self._reads_calls = calls is not None
        self._logprobs = LogprobCollector(token_bytes, added_bytes)
        self._stop_token_ids = frozenset(stop_token_ids)
        self._tags = tags
        self._reasoning = Reasoning(
            self._buffer, inline_tags=reasoning_in_content, is_continuation=is_continuation
        )
        self._thought: list[tuple[int, StepLogprobs | None]] = []  # since the reasoning was opened
        self._in_reasoning = in_reasoning
        self._turning_id = _NO_TOKEN
        if tags:
            self._turning_id = tags.close if in_reasoning else tags.open
        if in_reasoning and not is_continuation:
            self._reasoning.open()
        self._content.has_begun = is_continuation and not in_reasoning
        self._buffer.content += echo
        self._opening = self._buffer.take(choice)

    @property
    def stopped(self) -> bool:
        """True after a stop string or enough calls: no more text follows, so stop the engine."""
        return self._content.has_ended

    @property
    def stop_string(self) -> str | None:
        """The stop string that was met."""
        return self._content.stop_string

    def finish_reason(self, *, at_limit: bool) -> FinishReason:
        """
        Returns why the answer ended, once it has.

        Args:
            at_limit: The engine made as many tokens as were allowed, and no end token.

        """
        if at_limit and not self.stopped:
            return FinishReason.LENGTH
        return FinishReason.TOOL_CALLS if self._content.num_calls else FinishReason.STOP

    def opening(self) -> TextDelta:
        """Returns the delta that precedes the first token."""
        return self._opening

    def push(self, token_ids: Iterable[int], logprobs: Sequence[StepLogprobs] = ()) -> TextDelta:
        """
        Parses tokens and returns the delta that they complete, which may be empty.

        Args:
            token_ids: The next ones, in order.
            logprobs: One for each of them, where the request asks for them.

        """
        is_plain = not (self._reads_calls or logprobs)
        for position, token_id in enumerate(token_ids):
            if self._content.has_ended:  # the engine may be some tokens ahead
                break
            if token_id in self._stop_token_ids:
                continue
            if token_id == self._turning_id and self._turns():
                self._turn()
            elif self._in_reasoning:
                self._think(token_id, logprobs[position] if logprobs else None)
            elif is_plain:
                text = self._stream.push(token_id)
                if text:
                    self._content.push(text)
            else:
                self._answer(token_id, logprobs[position] if logprobs else None)
        return self._buffer.take(self.choice)

    def finish(self, *, at_limit: bool = False) -> TextDelta:
        """
        Returns the text that was held back, once the last token has been pushed.

        Args:
            at_limit: The engine made as many tokens as were allowed, and no end token.

        """
        if self._in_reasoning:
            self._reasoning.push(self._stream.flush())
            if not at_limit:
                self._answer_with_reasoning()
        self._flush_content()
        self._content.finish()
        return self._buffer.take(self.choice)

    def _turns(self) -> bool:
        # A model that opens a second reasoning amid its answer would hide the rest of it.
        return self._in_reasoning or not self._content.has_begun

    def _turn(self) -> None:
        self.reasoning_tokens += 1  # either tag is one
        assert self._tags is not None, "only tags turn an answer. This is a bug."
        if self._in_reasoning:
            self._reasoning.push(self._stream.flush())
            self._reasoning.close()
            self._thought.clear()
            self._turning_id = self._tags.open
        else:
            self._flush_content()
            self._reasoning.open()
            self._turning_id = self._tags.close
        self._in_reasoning = not self._in_reasoning

    def _think(self, token_id: int, step: StepLogprobs | None) -> None:
        self.reasoning_tokens += 1
        self._thought.append((token_id, step))
        self._reasoning.push(self._stream.push(token_id))

    def _answer_with_reasoning(self) -> None:
        self._reasoning.close()
        # Plain text goes in one piece: thousands of tokens one by one would delay other requests.
        for is_plain, tokens in groupby(self._thought, self._is_plain):
            if is_plain:
                text = "".join([self._stream.push(token_id) for token_id, _ in tokens])
                self._content.push_span(TextSpan(text))
                continue
            for token_id, step in tokens:
                self._answer(token_id, step)

    def _is_plain(self, token: tuple[int, StepLogprobs | None]) -> bool:
        token_id, step = token
        return step is None and token_id not in self._call_tags

    def _answer(self, token_id: int, step: StepLogprobs | None) -> None:
        tag = self._call_tags.get(token_id)
        if tag is not None:
            self._flush_content()
            self._logprobs.add(token_id, step)
            self._content.push_tag(self._logprobs.span(tag))
            return
        text = self._stream.push(token_id)
        if self._token_bytes.get(token_id):
            self._logprobs.add(token_id, step)
        if text:
            self._content.push_span(self._logprobs.span(text))

    def _flush_content(self) -> None:
        text = self._stream.flush()
        if text:
            self._content.push_span(self._logprobs.span(text))
