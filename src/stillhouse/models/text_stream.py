"""Tokens into text as they come, never splitting a character."""

from __future__ import annotations

import codecs
from collections.abc import Mapping


class TextStream:
    """
    Turns tokens into text as they come, never splitting a character.

    Each token is looked up once and its bytes are decoded once, so the cost per token does not
    grow with the text; re-decoding a window of tokens, as other servers do, is needed only for
    tokenizers that are not byte-level.

    Args:
        token_bytes: Bytes of each token id; ids that are absent, and control tokens, have none.

    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; bytes that can never be one give U+FFFD."""
        return self._decoder.decode(self._token_bytes.get(token_id, b""))

    def flush(self) -> str:
        """U+FFFD for a character that was begun and will not be completed."""
        return self._decoder.decode(b"", final=True)
