"""One completion decoded as its tokens come: characters, reasoning, content, stop strings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stillhouse.chat import FinishReason, StepLogprobs, TextDelta
from stillhouse.models.dialects.base import MarkIds
from stillhouse.models.stop_strings import StopStrings
from stillhouse.models.text_stream import TextStream


class Reply:
    """
    Decodes one completion as its tokens come: characters, reasoning, content, stop strings.

    However the tokens are split over calls, the joined text is the same. The split between
    reasoning and content goes by token ids, never by text, so an answer that merely writes
    ``</think>`` letter by letter stays whole.

    Args:
        token_bytes: Bytes of each token id; none for control tokens.
        marks: Ids of the reasoning marks; None where the model has none.
        in_reasoning: The prompt has opened the reasoning.
        stop: Strings that end the content; reasoning may hold them.
        choice: Which of the request's answers it is, from 0.

    Raises:
        InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

    """

    def __init__(
        self,
        token_bytes: Mapping[int, bytes],
        *,
        marks: MarkIds | None,
        in_reasoning: bool,
        stop: Sequence[str],
        choice: int = 0,
    ) -> None:
        self.choice = choice
        self.reasoning_tokens = 0
        self._stream = TextStream(token_bytes)
        self._stop = StopStrings(stop)
        self._marks = marks
        self._in_reasoning = in_reasoning
        self._reasoning = _Trimmed(keeps_end=False)
        # Only after reasoning are newlines an artefact; a plain model's are its own.
        self._content = _Trimmed(keeps_end=True) if marks else None
        self._has_content = False

    @property
    def stopped(self) -> bool:
        """A stop string was met: nothing more will be shown, and the engine may be stopped."""
        return self._stop.met

    @property
    def stop_string(self) -> str | None:
        """The stop string that was met."""
        return self._stop.met_string

    def finish_reason(self, *, at_limit: bool) -> FinishReason:
        """
        Why the answer ended, once it has.

        Args:
            at_limit: The engine made as many tokens as were allowed, and no end token.

        """
        return FinishReason.LENGTH if at_limit and not self.stopped else FinishReason.STOP

    def opening(self) -> TextDelta:
        """What is told before the first token comes."""
        return TextDelta(choice=self.choice)

    def push(
        self,
        token_ids: Iterable[int],
        logprobs: Sequence[StepLogprobs] = (),  # noqa: ARG002  (told from the next change on)
    ) -> TextDelta:
        """
        What these tokens make certain; all of it may be empty.

        Args:
            token_ids: The next ones, in order.
            logprobs: One for each of them, where the request asks for them.

        """
        content: list[str] = []
        reasoning: list[str] = []
        for token_id in token_ids:
            is_mark = self._marks is not None and self._turns(token_id, self._marks)
            text = self._stream.flush() if is_mark else self._stream.push(token_id)
            if self._in_reasoning:
                self.reasoning_tokens += 1
                reasoning.append(self._reasoning.push(text))
            elif text:
                content.append(self._push_content(text))
            if is_mark:
                self._turn()
        return TextDelta("".join(content), "".join(reasoning), choice=self.choice)

    def finish(self) -> TextDelta:
        """What was held back, once the last token has been pushed."""
        rest = self._stream.flush()
        if self._in_reasoning:
            return TextDelta(reasoning=self._reasoning.push(rest), choice=self.choice)
        content = self._push_content(rest)
        return TextDelta(content + self._stop.flush(), choice=self.choice)

    def _turns(self, token_id: int, marks: MarkIds) -> bool:
        if self._in_reasoning:
            return token_id == marks.close
        # A model that opens a second reasoning amid its answer would hide the rest of it.
        return token_id == marks.open and not self._has_content

    def _turn(self) -> None:
        self._in_reasoning = not self._in_reasoning
        if self._in_reasoning:
            self.reasoning_tokens += 1  # the opening mark itself

    def _push_content(self, text: str) -> str:
        visible = self._content.push(text) if self._content else text
        self._has_content = self._has_content or bool(visible)
        return self._stop.push(visible)


class _Trimmed:
    """A text without the newlines at its start and, unless `keeps_end`, at its end."""

    def __init__(self, *, keeps_end: bool) -> None:
        self._keeps_end = keeps_end
        self._has_begun = False
        self._held = ""

    def push(self, text: str) -> str:
        """What of the text so far is certain, and has not been returned yet."""
        if not self._has_begun:
            text = text.lstrip("\n")
            self._has_begun = bool(text)
        if self._keeps_end or not text:
            return text
        pending = self._held + text
        certain = pending.rstrip("\n")
        self._held = pending[len(certain) :]
        return certain
