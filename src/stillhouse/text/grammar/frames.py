"""Defines the messages between the gateway and a process that compiles grammars."""

from __future__ import annotations

import msgspec

MAX_ANSWER_BYTES = 1 << 16


class CompileRequest(msgspec.Struct, frozen=True):
    """
    Compile a grammar.

    Args:
        grammar: As llguidance reads it.
        tokenizer: The path of a ``tokenizer.json``; None takes one token for each byte.
        memory_bytes: Memory that compiling may take beyond what the process has by then.

    """

    grammar: str
    tokenizer: str | None
    memory_bytes: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Reports that the tokenizer is loaded and compiling begins."""


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """
    Reports the result of compiling.

    Args:
        reason: The reason why the grammar cannot be used; None where it can.

    """

    reason: str | None


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(CompileRequest).decode
decode_answer: msgspec.msgpack.Decoder[Loaded | Compiled] = msgspec.msgpack.Decoder(
    Loaded | Compiled
)
