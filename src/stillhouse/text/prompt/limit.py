"""Refuses prompts that are too long, as early as their length is certain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from stillhouse.errors import ContextLengthError
from stillhouse.text.prompt.conversation import offered_tools
from stillhouse.text.tokenizer import Segment, Tokenizer
from stillhouse.types.messages import Message, Tool
from stillhouse.types.requests import ChatRequest

#: A prompt with more characters for each token that it may have is tokenised in pieces first.
_USUAL_CHARS_PER_TOKEN = 6
_PIECE_CHARS = 1 << 16
_MAX_CUT_TOKENS = 64


class PromptLimit:
    """
    Refuses prompts of more than `max_tokens` tokens; nothing is ever cut off silently.

    Every method raises ContextLengthError, with the field that holds the prompt.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._longest_token_bytes = max(map(len, tokenizer.token_bytes.values()))
        self._longest_raw_token = max(
            self._longest_token_bytes, *map(len, tokenizer.added_tokens), 1
        )

    def check(self, num_tokens: int, *, param: str, is_lower_bound: bool = False) -> None:
        """Refuses a prompt of *num_tokens* tokens if that is too many."""
        if num_tokens > self.max_tokens:
            raise ContextLengthError(
                prompt_tokens=num_tokens,
                max_prompt_tokens=self.max_tokens,
                is_lower_bound=is_lower_bound,
                param=param,
            )

    def check_chat(self, request: ChatRequest) -> None:
        """Refuses, untokenised, a conversation that cannot fit even in the longest tokens."""
        num_chars = sum(map(_num_chars, request.messages))
        num_chars += sum(map(_num_chars_of_tool, offered_tools(request)))
        num_tokens = max(num_chars // self._longest_token_bytes, len(request.messages))
        self.check(num_tokens, param="messages", is_lower_bound=True)

    def check_text(self, text: str) -> None:
        """Refuses, untokenised, a text that cannot fit even in the longest tokens."""
        self.check(len(text) // self._longest_raw_token, param="prompt", is_lower_bound=True)

    def check_in_pieces(self, segments: Sequence[Segment], *, param: str) -> None:
        """
        Refuses a prompt that is far too long once enough of it has been tokenised, piece by piece.

        Seven MiB at once take seconds and most of a gigabyte. Each cut adds a few tokens, and there
        is one in some ten thousand: a prompt that exceeds the limit by a quarter exceeds it uncut.
        """
        most = self.max_tokens
        if sum(len(segment.text) for segment in segments) <= _USUAL_CHARS_PER_TOKEN * most:
            return
        num_tokens = 0
        for piece in _pieces(segments):
            num_tokens += len(self._tokenizer.encode(piece))
            if num_tokens > most + most // 4 + _MAX_CUT_TOKENS:
                self.check(num_tokens * 4 // 5, param=param, is_lower_bound=True)


def _pieces(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Cuts long segments and groups short ones, so that only a cut changes the tokens."""
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


def _num_chars(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + calls


def _num_chars_of_tool(tool: Tool) -> int:
    schema = json.dumps(tool.parameters, ensure_ascii=False, separators=(",", ":"))
    return len(tool.name) + len(tool.description) + len(schema)
