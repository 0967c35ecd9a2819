"""Writes a byte-level ASCII tokenizer.json, small enough for checkpoints of random weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Every printable character is the token of its code; some longer tokens follow.
FIRST_CHARACTER = 0x20
CHARACTERS = [chr(code) for code in range(FIRST_CHARACTER, 0x7F)]
WORDS = ['{"', '":', '",', '"}', "true", "false", "null", "ab", "abc", "12", "1234", "foo", "bar"]
THINK = "<think>"  # not flagged as special, as in R1
END, OTHER_END = "<|end|>", "<|other end|>"
TOKENS = [*CHARACTERS, *WORDS, THINK, END, OTHER_END]
THINK_ID, END_ID, OTHER_END_ID = (TOKENS.index(token) for token in (THINK, END, OTHER_END))


def write_ascii_tokenizer(directory: Path) -> None:
    """Write tokenizer.json to *directory*."""
    (directory / "tokenizer.json").write_text(json.dumps(ascii_tokenizer()))


def ascii_tokenizer() -> dict[str, object]:
    """Return the file's content."""
    ordinary = [*CHARACTERS, *WORDS]
    added = [(THINK, False), (END, True), (OTHER_END, True)]
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": TOKENS.index(content),
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": is_special,
            }
            for content, is_special in added
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "vocab": {token.replace(" ", "Ġ"): number for number, token in enumerate(ordinary)},
            "merges": [],
        },
    }


def text_of(token_ids: list[int]) -> str:
    """Return the text of the tokens, special ones included."""
    return "".join(TOKENS[token_id] for token_id in token_ids)
