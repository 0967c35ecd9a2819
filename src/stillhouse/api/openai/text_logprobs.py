"""Encodes log probabilities for OpenAI's text completions: as four parallel lists."""

from __future__ import annotations

import codecs

from typing_extensions import TypedDict

from stillhouse.types.logprobs import Logprob, TokenLogprobs


class TextLogprobsOut(TypedDict):
    """The log probabilities of a piece of a response; each list has an entry per token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextLogprobs:
    """
    Encodes the log probabilities of one choice, piece by piece.

    Args:
        names_ids: Write ``token_id:7`` for a token instead of its text (vLLM's
            `return_tokens_as_token_ids`).

    """

    def __init__(self, *, names_ids: bool = False) -> None:
        self._name = _id_of if names_ids else _text_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def push(self, logprobs: tuple[TokenLogprobs, ...]) -> TextLogprobsOut:
        """
        Returns the lists for the next tokens.

        The offset of a token counts the characters before the first one that the token completes or
        starts.
        """
        return {
            "tokens": [self._name(token.sampled) for token in logprobs],
            "token_logprobs": [token.sampled.logprob for token in logprobs],
            "top_logprobs": [self._top(token) for token in logprobs],
            "text_offset": [self._next_offset(token.sampled) for token in logprobs],
        }

    def _top(self, token: TokenLogprobs) -> dict[str, float]:
        """Returns the likeliest tokens, and the sampled one, which may not be among them."""
        return {self._name(logprob): logprob.logprob for logprob in (*token.top, token.sampled)}

    def _next_offset(self, drawn: Logprob) -> int:
        offset = self._offset
        self._offset += len(self._decoder.decode(drawn.token_bytes))
        return offset


def _text_of(logprob: Logprob) -> str:
    r"""Returns the token's text; a part of a character in OpenAI's form, ``bytes:\xe2\x80``."""
    try:
        return logprob.token_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.token_bytes)


def _id_of(logprob: Logprob) -> str:
    return f"token_id:{logprob.token_id}"
