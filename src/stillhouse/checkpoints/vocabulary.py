"""A checkpoint's vocabulary as llguidance takes it: bytes of tokens, and which are special."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llguidance import LLTokenizer, TokenizerWrapper

from stillhouse.checkpoints.tokenizer_json import TokenizerJson

if TYPE_CHECKING:
    from pathlib import Path

    import tokenizers

END_CONTENT = b"<|the grammar is complete|>"


def read_vocabulary(path: Path, vocab_size: int) -> LLTokenizer | None:
    """
    Reads a byte-level ``tokenizer.json``; returns None where there is no such file.

    The vocabulary has one token more than the model's, which no model generates: its place in a
    mask says whether the grammar is complete, whatever tokens end a request.

    Raises:
        CheckpointError: It is not what it should be.

    """
    if not path.exists():
        return None
    document = TokenizerJson.read(path)
    special_ids = [token.id for token in document.added_tokens if token.is_control]
    vocabulary = _Vocabulary(
        _token_bytes(document, vocab_size),
        [*(number for number in special_ids if number < vocab_size), vocab_size],
        document.byte_pair_tokenizer(),
    )
    return LLTokenizer(TokenizerWrapper(vocabulary))


class _Vocabulary:
    """
    The interface through which llguidance reads a tokenizer.

    What a grammar forces is spelled as the model would spell it, in ordinary tokens alone.
    """

    bos_token_id = None

    def __init__(
        self, tokens: list[bytes], special_token_ids: list[int], spelling: tokenizers.Tokenizer
    ) -> None:
        self.tokens = tokens
        self.special_token_ids = special_token_ids
        self.eos_token_id = len(tokens) - 1
        self._spelling = spelling

    def __call__(self, text: bytes) -> list[int]:
        batch = self._spelling.encode_batch_fast([text.decode()], add_special_tokens=False)
        return list(batch[0].ids)


def _token_bytes(document: TokenizerJson, vocab_size: int) -> list[bytes]:
    """Returns the bytes of each token, none where the model has more tokens than the file."""
    tokens = [b""] * vocab_size
    added = {token.id: token.content.encode() for token in document.added_tokens}
    for token_id, text in (document.token_bytes() | added).items():
        if token_id < vocab_size:
            tokens[token_id] = text
    return [*tokens, END_CONTENT]
