"""Reads a byte-level ``tokenizer.json``: vocabulary, added tokens and the byte-pair half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tokenizers

from stillhouse.checkpoints.text_file import read_text_file
from stillhouse.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class AddedToken:
    """
    A token that is matched in text as a whole, before any byte-pair merge.

    Args:
        is_special: As the file flags it.
        is_control: It is special, or looks so: it shows in no answer that is split into parts.

    """

    id: int
    content: str
    is_special: bool
    is_control: bool
    strips_left: bool
    strips_right: bool


class TokenizerJson:
    """
    A byte-level ``tokenizer.json``, parsed and checked.

    `prefix` holds the added tokens that the file's post-processor puts before every text.

    Args:
        text: The file's text.
        source: The file's name, for messages.

    Raises:
        CheckpointError: It is not JSON, or not byte-level BPE.

    """

    def __init__(self, text: str, *, source: str) -> None:
        self.source = source
        self._document = _parse(text, source)
        try:
            self.added_tokens = tuple(_added_tokens(self._document, source))
            self.prefix = _prefix(self._document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _no_tokenizer(source, error) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the file at *path*; CheckpointError where it cannot be read."""
        return cls(read_text_file(path), source=str(path))

    def token_bytes(self) -> dict[int, bytes]:
        """
        Returns the bytes of each token of the vocabulary that is not an added token.

        Raises:
            CheckpointError: An id is not an integer.

        """
        alphabet = _byte_alphabet()
        table: dict[int, bytes] = {}
        for token, token_id in self._document["model"]["vocab"].items():
            if not isinstance(token_id, int):
                raise _no_tokenizer(self.source, f"token {token!r} has the id {token_id!r}")
            try:
                table[token_id] = token.translate(alphabet).encode("latin-1")
            except (
                UnicodeEncodeError
            ):  # outside of the byte alphabet: as it is, as the library does
                table[token_id] = token.encode()
        return table

    def byte_pair_tokenizer(self) -> tokenizers.Tokenizer:
        """
        Returns the library's tokenizer without any added token.

        Raises:
            CheckpointError: The library refuses the file.

        """
        model = self._document["model"]
        added = {token.content for token in self.added_tokens}
        # With `ignore_merges` (Llama 3) a word that stands in the vocabulary is taken whole, so
        # added tokens must go from there as well.
        vocab = {token: id_ for token, id_ in model["vocab"].items() if token not in added}
        plain = self._document | {
            "added_tokens": [],
            "truncation": None,
            "padding": None,
            "model": model | {"vocab": vocab},
        }
        try:
            return tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{self.source}: cannot be loaded ({error})") from error


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
        kind = document["model"].get("type", "BPE")
        decoder = json.dumps(document["decoder"])
        has_vocab = isinstance(document["model"]["vocab"], dict)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_tokenizer(source, error) from error
    if kind != "BPE" or not has_vocab or '"ByteLevel"' not in decoder:
        raise CheckpointError(
            f"{source}: is {kind} with decoder {decoder[:80]}; stillhouse reads byte-level BPE "
            "(Llama 3, Qwen2, DeepSeek)"
        )
    return dict(document)


def _no_tokenizer(source: str, reason: object) -> CheckpointError:
    return CheckpointError(f"{source}: is not a tokenizer ({reason!r})")


def _added_tokens(document: Mapping[str, Any], source: str) -> list[AddedToken]:
    tokens = []
    for entry in document.get("added_tokens") or []:
        if entry.get("single_word"):
            raise CheckpointError(
                f"{source}: added token {entry.get('content')!r} has single_word, which is not "
                "supported"
            )
        content = str(entry["content"])
        if content:
            tokens.append(
                AddedToken(
                    id=int(entry["id"]),
                    content=content,
                    is_special=bool(entry.get("special")),
                    is_control=bool(entry.get("special")) or _is_bracketed(content),
                    strips_left=bool(entry.get("lstrip")),
                    strips_right=bool(entry.get("rstrip")),
                )
            )
    return tokens


def _is_bracketed(content: str) -> bool:
    """Returns whether the token looks like a tag: R1 flags ``<think>`` as not special."""
    return (content[0], content[-1]) in {("<", ">"), ("[", "]")}


def _prefix(document: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Returns the special tokens that a template of the post-processor puts before a text.

    Source:
        tokenizers, `processors.TemplateProcessing`: ``single`` lists special tokens and the text.
    """
    processor = document.get("post_processor") or {}
    tokens: list[str] = []
    for step in processor.get("processors") or [processor]:
        for piece in step.get("single") or []:
            if "SpecialToken" not in piece:
                break
            tokens.append(str(piece["SpecialToken"]["id"]))
    return tuple(tokens)


def _byte_alphabet() -> dict[int, str]:
    """
    Returns a table for `str.translate` from the letters of byte-level BPE to the bytes in Latin-1.

    Letters that stand for no byte become one that Latin-1 lacks.

    Source:
        `bytes_to_unicode` of GPT-2's encoder: printable Latin-1 stands for itself, the rest
        follows from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    no_letters = dict.fromkeys(others, "\ufffd")
    return no_letters | {0x100 + index: chr(byte) for index, byte in enumerate(others)}
