"""A checkpoint's vocabulary as llguidance takes it: bytes of tokens, and which are special."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tokenizers
from llguidance import LLTokenizer, TokenizerWrapper

from stillhouse.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_TOKENIZER_BYTES = 256 * 1024 * 1024
END_CONTENT = b"<|the grammar is complete|>"


def read_vocabulary(path: Path, vocab_size: int) -> LLTokenizer | None:
    """
    Read a byte-level ``tokenizer.json``; None where there is no such file.

    Its vocabulary has one token more than the model's, which no model draws: its place in a mask
    says whether the grammar is complete, whatever tokens end a request.

    Raises:
        CheckpointError: It is not what it should be.

    """
    try:
        document = json.loads(_read(path))
        specials = {
            int(entry["id"]): str(entry["content"])
            for entry in document.get("added_tokens") or []
            if entry.get("special") or _is_bracketed(str(entry["content"]))
        }
        tokens = _token_bytes(document, vocab_size)
        spelling = _without_added_tokens(document)
        special_ids = [*(number for number in specials if number < vocab_size), vocab_size]
        return LLTokenizer(TokenizerWrapper(_Vocabulary(tokens, special_ids, spelling)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a tokenizer: {error!r}.") from error


class _Vocabulary:
    """
    What llguidance asks of a tokenizer.

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


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_TOKENIZER_BYTES + 1)
    if len(text) > MAX_TOKENIZER_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_TOKENIZER_BYTES} bytes.")
    return text


def _is_bracketed(content: str) -> bool:
    """R1 flags ``<think>`` as not special, yet it is no part of any text."""
    return (content[:1], content[-1:]) in {("<", ">"), ("[", "]")}


def _token_bytes(document: Mapping[str, Any], vocab_size: int) -> list[bytes]:
    """Return what each token stands for, nothing where the model has more than the vocabulary."""
    tokens = [b""] * vocab_size
    to_latin = _byte_alphabet()
    for token, token_id in document["model"]["vocab"].items():
        if token_id < vocab_size:
            try:
                tokens[token_id] = token.translate(to_latin).encode("latin-1")
            except UnicodeEncodeError:  # not in the byte alphabet: taken as it stands
                tokens[token_id] = token.encode()
    for entry in document.get("added_tokens") or []:
        if entry["id"] < vocab_size:
            tokens[entry["id"]] = str(entry["content"]).encode()
    return [*tokens, END_CONTENT]


def _byte_alphabet() -> dict[int, int]:
    """
    Byte-level BPE writes the bytes that are no printable Latin-1 as letters from U+0100 on.

    Source:
        `bytes_to_unicode` of GPT-2's encoder.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {0x100 + index: byte for index, byte in enumerate(others)}


def _without_added_tokens(document: Mapping[str, Any]) -> tokenizers.Tokenizer:
    added = {entry["content"] for entry in document.get("added_tokens") or []}
    model = document["model"]
    # With `ignore_merges` a word that stands in the vocabulary is taken whole.
    vocab = {token: number for token, number in model["vocab"].items() if token not in added}
    plain = {
        **document,
        "added_tokens": [],
        "truncation": None,
        "padding": None,
        "model": {**model, "vocab": vocab},
    }
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(str(error)) from error
