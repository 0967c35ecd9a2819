"""Decodes tokens to text while they stream, never splitting a character."""

from __future__ import annotations

import codecs
from collections.abc import Mapping


class TextStream:
    """
    Decodes tokens to text while they stream, never splitting a character.

    Each token is looked up once and its bytes are decoded once, so the cost per token does not
    grow with the text; re-decoding a window of tokens, as other servers do, is needed only for
    tokenizers that are not byte-level.

    Args:
        token_bytes: Bytes of each token id; ids that are absent, and control tokens, have none.

    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_amid_character = False

    def push(self, token_id: int) -> str:
        """The characters that this token completes; bytes that can never be one give U+FFFD."""
        token = self._token_bytes.get(token_id, b"")
        if not self._is_amid_character:
            try:  # most tokens are whole characters, which needs no decoder with a memory
                return token.decode()
            except UnicodeDecodeError:
                pass
        text = self._decoder.decode(token)
        self._is_amid_character = bool(self._decoder.getstate()[0])
        return text

    def flush(self) -> str:
        """Returns U+FFFD for a character that was begun and will not be completed."""
        return self._decoder.decode(b"", final=True)
