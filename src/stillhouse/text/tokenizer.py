"""Encodes prompts with byte-level BPE; only templates may use added tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillhouse.checkpoints.tokenizer_json import AddedToken, TokenizerJson
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


class Tokenizer:
    """
    Encodes prompts with byte-level BPE in two halves: ordinary text and added tokens.

    The byte-pair half is loaded *without* any added token, so that no text whatever can become
    one; `encode_special_tokens` of the tokenizers library would not do, as it leaves out those
    flagged ``special: false``, and R1 flags ``<think>`` so.

    It has two tables from token ids to their bytes: `token_bytes`, in which control tokens have
    none, and `raw_token_bytes`, in which only those have none that the file flags as special.
    `prefix` holds the added tokens that the file's post-processor puts before every text.

    Args:
        tokenizer_json: The parsed file.

    Raises:
        CheckpointError: Bytes of UTF-8 are missing from the vocabulary.

    """

    def __init__(self, tokenizer_json: TokenizerJson) -> None:
        self.added_tokens: Mapping[str, AddedToken] = {
            token.content: token for token in tokenizer_json.added_tokens
        }
        self.control_ids = frozenset(t.id for t in self.added_tokens.values() if t.is_control)
        ordinary = tokenizer_json.token_bytes()
        _check_all_bytes(ordinary, source=tokenizer_json.source)
        added = self.added_tokens.values()
        self.token_bytes: Mapping[int, bytes] = ordinary | {
            t.id: b"" if t.is_control else t.content.encode() for t in added
        }
        self.raw_token_bytes: Mapping[int, bytes] = ordinary | {
            t.id: b"" if t.is_special else t.content.encode() for t in added
        }
        self.prefix = tokenizer_json.prefix
        self._plain = tokenizer_json.byte_pair_tokenizer()
        self._added_pattern = _any_of(self.added_tokens)

    def id_of(self, content: str) -> int | None:
        """Returns the id of the added token with this text."""
        token = self.added_tokens.get(content)
        return token.id if token else None

    def text_of(self, token_ids: Iterable[int]) -> str:
        """Decodes token ids, added tokens spelled out; broken characters are replaced."""
        contents = {token.id: content for content, token in self.added_tokens.items()}
        parts = [
            contents[token_id].encode() if token_id in contents else self.token_bytes[token_id]
            for token_id in token_ids
        ]
        return b"".join(parts).decode(errors="replace")

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """
        Encodes a rendered prompt as one text, with added tokens only from the template.

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
        """Splits segments into plain spans and the added token after each but the last."""
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


def _check_all_bytes(token_bytes: Mapping[int, bytes], *, source: str) -> None:
    missing = _bytes_of_utf8() - {text[0] for text in token_bytes.values() if len(text) == 1}
    if missing:
        raise CheckpointError(
            f"{source}: has no token for byte 0x{min(missing):02x}, so some text would be lost; "
            "train it with the whole byte alphabet"
        )


def _bytes_of_utf8() -> set[int]:
    """Returns all bytes but those that never occur in UTF-8 (RFC 3629)."""
    return set(range(0x100)) - {0xC0, 0xC1, *range(0xF5, 0x100)}


def _any_of(contents: Iterable[str]) -> re.Pattern[str]:
    """Matches leftmost, then longest, as the tokenizers library matches added tokens."""
    longest_first = sorted(contents, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
