"""Separates an answer's text from its tool calls, and ends it at stop strings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from stillhouse.text.parsing.delta_buffer import DeltaBuffer
from stillhouse.text.parsing.stop_strings import StopStrings
from stillhouse.text.parsing.text_span import EMPTY, TextSpan
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.text.parsing.tool_calls.syntax import CallEnd, CallEvent
from stillhouse.types.logprobs import TokenLogprobs


class Content:
    """
    Separates an answer's text from its tool calls, and ends it at stop strings.

    Args:
        trims_start: Newlines at its start are no part of it.
        stop: Strings that end it; calls may hold them.
        calls: None where the answer can have none.

    Raises:
        InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

    """

    def __init__(
        self,
        buffer: DeltaBuffer,
        *,
        trims_start: bool,
        stop: Sequence[str],
        calls: ToolCallReader | None,
    ) -> None:
        self.has_begun = False  # something but white space that is no part of it
        self.has_ended = False
        self.num_calls = 0  # those that are complete
        self._buffer = buffer
        self._trims_start = trims_start
        self._stop = StopStrings(stop)
        self._calls = calls
        self._unshown = _UnshownTokens()

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended it."""
        return self._stop.met_string

    def push(self, text: str) -> None:
        """Adds *text* to an answer without tool calls and log probabilities."""
        if not self.has_begun:
            text = self._begin(text)
        self._buffer.content += self._stop.push(text)
        self.has_ended = self._stop.met_string is not None

    def push_span(self, text: TextSpan) -> None:
        """Adds *text*; behind the end it is ignored."""
        if self.has_ended:
            return
        if not self.has_begun:
            text = text.cut(len(text.text) - len(self._begin(text.text)))
        if text.text:
            self._emit([text] if self._calls is None else self._calls.push(text))

    def push_tag(self, tag: TextSpan) -> None:
        """Adds a token of the calls' syntax; behind the end it is ignored."""
        if self.has_ended:
            return
        self.has_begun = True
        assert self._calls is not None, "tags are those of the calls' reader. This is a bug."
        self._emit(self._calls.push_tag(tag))

    def finish(self) -> None:
        """Emits the text that was held back."""
        if self._calls is not None and not self.has_ended:
            self._emit(self._calls.finish())
        self._show(EMPTY, self._stop.flush())

    def _begin(self, text: str) -> str:
        visible = text.lstrip("\n") if self._trims_start else text
        self.has_begun = bool(visible)
        return visible

    def _emit(self, events: Iterable[CallEvent]) -> None:
        for event in events:
            if isinstance(event, TextSpan):
                self._show(event, self._stop.push(event.text))
                self.has_ended = self._stop.met
            elif isinstance(event, CallEnd):
                self.num_calls += 1
                self.has_ended = self._calls is not None and self.num_calls == self._calls.max_calls
            else:
                self._buffer.tool_calls.append(event)
            if self.has_ended:
                return

    def _show(self, text: TextSpan, shown: str) -> None:
        self._buffer.content += shown
        self._buffer.logprobs += self._unshown.shown(text, len(shown))


class _UnshownTokens:
    """The tokens of text that stop strings may still cut off."""

    def __init__(self) -> None:
        self._tokens: deque[tuple[int, TokenLogprobs]] = deque()
        self._num_chars = 0
        self._num_shown = 0
        self._last: TokenLogprobs | None = None

    def shown(self, text: TextSpan, num_shown: int) -> list[TokenLogprobs]:
        """Returns the tokens whose text is emitted now, of *text* and of what was held back."""
        for token in text.tokens:
            self._tokens.append((self._num_chars + token.start, token.logprobs))
        self._num_chars += len(text.text)
        self._num_shown += num_shown
        shown = []
        while self._tokens and self._tokens[0][0] < self._num_shown:
            _, token_logprobs = self._tokens.popleft()
            if token_logprobs is not self._last:  # one that lies across a cut comes twice
                shown.append(token_logprobs)
            self._last = token_logprobs
        return shown
