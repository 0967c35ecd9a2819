"""Byte-level BPE in two halves: ordinary text, and added tokens that only templates may use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

from stillhouse.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A span of a rendered prompt.

    Args:
        is_template: Added tokens are recognised only where the template wrote them.

    """

    text: str
    is_template: bool


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


class Tokenizer:
    """
    Byte-level BPE of a ``tokenizer.json``, kept in two halves: ordinary text and added tokens.

    The byte-pair half is loaded *without* any added token, so that no text whatever can become
    one; `encode_special_tokens` of the tokenizers library would not do, as it leaves out those
    flagged ``special: false``, and R1 flags ``<think>`` so.

    It has two tables from token ids to their bytes: `token_bytes`, in which control tokens have
    none, and `raw_token_bytes`, in which only those have none that the file flags as special.
    `prefix` holds the added tokens that the file's post-processor puts before every text.

    Args:
        tokenizer_json: The file's text.
        source: The file's name, for messages.

    Raises:
        CheckpointError: Not JSON, not byte-level BPE, or bytes of UTF-8 are missing from it.

    """

    def __init__(self, tokenizer_json: str, *, source: str) -> None:
        document = _parse(tokenizer_json, source)
        self.added_tokens: Mapping[str, AddedToken] = {
            token.content: token for token in _added_tokens(document, source)
        }
        self.control_ids = frozenset(t.id for t in self.added_tokens.values() if t.is_control)
        words = _token_bytes(document["model"]["vocab"], source)
        added = self.added_tokens.values()
        self.token_bytes: Mapping[int, bytes] = words | {
            t.id: b"" if t.is_control else t.content.encode() for t in added
        }
        self.raw_token_bytes: Mapping[int, bytes] = words | {
            t.id: b"" if t.is_special else t.content.encode() for t in added
        }
        self.prefix = _prefix(document)
        self._plain = _plain_half(document, self.added_tokens, source)
        self._added_pattern = _any_of(self.added_tokens)

    def id_of(self, content: str) -> int | None:
        """The id of the added token that reads *content*."""
        token = self.added_tokens.get(content)
        return token.id if token else None

    def text_of(self, token_ids: Iterable[int]) -> str:
        """What the ids stand for, added tokens spelled out; broken characters are replaced."""
        contents = {token.id: content for content, token in self.added_tokens.items()}
        parts = [
            contents[token_id].encode() if token_id in contents else self.token_bytes[token_id]
            for token_id in token_ids
        ]
        return b"".join(parts).decode(errors="replace")

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """
        Token ids of a rendered prompt, as of one text, but added tokens only from the template.

        The interpreter's lock is let go for most of the time, so a thread of its own keeps a long
        prompt from holding others up.
        """
        plain, added = self._split(segments)
        for index, token in enumerate(added):
            if token.strips_left:
                plain[index] = plain[index].rstrip()
            if token.strips_right:
                plain[index + 1] = plain[index + 1].lstrip()
        token_ids = self._encode_plain(plain[0])
        for token, text in zip(added, plain[1:], strict=True):
            token_ids.append(token.id)
            token_ids += self._encode_plain(text)
        return token_ids

    def _split(self, segments: Iterable[Segment]) -> tuple[list[str], list[AddedToken]]:
        """Plain spans, and the added token after each but the last."""
        spans: list[list[str]] = [[]]
        added: list[AddedToken] = []
        for segment in segments:
            end = 0
            for match in self._added_pattern.finditer(segment.text) if segment.is_template else ():
                spans[-1].append(segment.text[end : match.start()])
                spans.append([])
                added.append(self.added_tokens[match.group()])
                end = match.end()
            spans[-1].append(segment.text[end:])
        return ["".join(parts) for parts in spans], added

    def _encode_plain(self, text: str) -> list[int]:
        if not text:
            return []
        # Unlike `encode`, this skips offsets (2.5 times as fast) and releases the interpreter lock.
        return self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids


def _parse(tokenizer_json: str, source: str) -> dict[str, Any]:
    try:
        document = json.loads(tokenizer_json)
        kind = document["model"].get("type", "BPE")
        decoder = json.dumps(document["decoder"])
        has_vocab = isinstance(document["model"]["vocab"], dict)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{source}: is not a tokenizer ({error!r})") from error
    if kind != "BPE" or not has_vocab or '"ByteLevel"' not in decoder:
        raise CheckpointError(
            f"{source}: is {kind} with decoder {decoder[:80]}; stillhouse reads byte-level BPE "
            "(Llama 3, Qwen2, DeepSeek)"
        )
    return dict(document)


def _added_tokens(document: dict[str, Any], source: str) -> list[AddedToken]:
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
    """R1 flags ``<think>`` as not special, yet it is no part of any answer."""
    return (content[0], content[-1]) in {("<", ">"), ("[", "]")}


def _token_bytes(vocab: dict[str, int], source: str) -> dict[int, bytes]:
    byte_of = _byte_of_letter()
    table: dict[int, bytes] = {}
    for token, token_id in vocab.items():
        try:
            table[token_id] = bytes([byte_of[letter] for letter in token])
        except (
            KeyError
        ):  # not written in the byte alphabet: taken as it stands, as the library does
            table[token_id] = token.encode()
    missing = _bytes_of_utf8() - {text[0] for text in table.values() if len(text) == 1}
    if missing:
        raise CheckpointError(
            f"{source}: has no token for byte 0x{min(missing):02x}, so some text would be lost; "
            "train it with the whole byte alphabet"
        )
    return table


def _prefix(document: dict[str, Any]) -> tuple[str, ...]:
    """
    The special tokens that a template of the post-processor puts before a text.

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


def _byte_of_letter() -> dict[str, int]:
    """
    Byte-level BPE writes each byte as a printable letter.

    Source:
        `bytes_to_unicode` of GPT-2's encoder: printable Latin-1 stands for itself, the rest
        follows from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def _bytes_of_utf8() -> set[int]:
    """All bytes but those that never occur in UTF-8 (RFC 3629)."""
    return set(range(0x100)) - {0xC0, 0xC1, *range(0xF5, 0x100)}


def _plain_half(
    document: dict[str, Any], added_tokens: Iterable[str], source: str
) -> tokenizers.Tokenizer:
    model = document["model"]
    added = frozenset(added_tokens)
    # With `ignore_merges` (Llama 3) a word that stands in the vocabulary is taken whole, so added
    # tokens must go from there as well.
    vocab = {token: token_id for token, token_id in model["vocab"].items() if token not in added}
    plain = document | {
        "added_tokens": [],
        "truncation": None,
        "padding": None,
        "model": model | {"vocab": vocab},
    }
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{source}: cannot be loaded ({error})") from error


def _any_of(contents: Iterable[str]) -> re.Pattern[str]:
    """Leftmost, then longest, as the tokenizers library matches added tokens."""
    longest_first = sorted(contents, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
