"""Log probabilities as OpenAI's text completions tell them: in four lists side by side."""

from __future__ import annotations

import codecs

from typing_extensions import TypedDict

from stillhouse.types.logprobs import Logprob, TokenLogprobs


class TextLogprobsOut(TypedDict):
    """The log probabilities of a stretch of an answer; the lists are as long as it has tokens."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextLogprobs:
    """
    Tells the tokens of one answer, in as many pieces as they come in.

    Args:
        names_ids: Write ``token_id:7`` for a token, and not what it stands for (vLLM's
            `return_tokens_as_token_ids`).

    """

    def __init__(self, *, names_ids: bool = False) -> None:
        self._name = _id_of if names_ids else _text_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def push(self, logprobs: tuple[TokenLogprobs, ...]) -> TextLogprobsOut:
        """
        The lists for the next tokens.

        An offset counts the characters of the answer before the one that the token is the first to
        be a part of.
        """
        return {
            "tokens": [self._name(token.sampled) for token in logprobs],
            "token_logprobs": [token.sampled.logprob for token in logprobs],
            "top_logprobs": [self._top(token) for token in logprobs],
            "text_offset": [self._next_offset(token.sampled) for token in logprobs],
        }

    def _top(self, token: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens, and the one that was drawn, which may not be among them."""
        return {self._name(logprob): logprob.logprob for logprob in (*token.top, token.sampled)}

    def _next_offset(self, drawn: Logprob) -> int:
        offset = self._offset
        self._offset += len(self._decoder.decode(drawn.token_bytes))
        return offset


def _text_of(logprob: Logprob) -> str:
    r"""The token's text; a part of a character as OpenAI wrote it, ``bytes:\xe2\x80``."""
    try:
        return logprob.token_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.token_bytes)


def _id_of(logprob: Logprob) -> str:
    return f"token_id:{logprob.token_id}"
