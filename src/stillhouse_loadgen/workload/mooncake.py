"""Replays traces of real services: JSON lines in Mooncake's format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec

from stillhouse_loadgen.client.load_key import KeyRing
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.workload.text import rng_of, text_of, words_from
from stillhouse_loadgen.workload.workload import Conversation, TextScale, Turn

BLOCK_TOKENS = 512
_BLOCK, _REST, _KEY = 2, 3, 4  # the purpose of a random generator
_NUM_CACHED_BLOCKS = 4096

_Length = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_HashId = Annotated[int, msgspec.Meta(ge=0)]


class TraceRequest(msgspec.Struct, frozen=True):
    """
    One line of a trace.

    Source:
        Mooncake, https://github.com/kvcache-ai/Mooncake, FAST25-release/traces.

    Args:
        timestamp: Milliseconds from the start of the trace.
        input_length: Tokens.
        output_length: Tokens.
        hash_ids: One for each block of 512 tokens of the prompt; equal ids are equal text.

    """

    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: _Length
    output_length: _Length
    hash_ids: tuple[_HashId, ...] = ()


def read_trace(path: Path) -> list[TraceRequest]:
    """
    Reads the requests of a trace, in the order of their times.

    Raises:
        ArgumentError: The file cannot be read, or a line is wrong; the message names the line.

    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ArgumentError(f"--trace {path}: cannot be read: {error.strerror}") from error
    trace = [
        _request(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not trace:
        raise ArgumentError(f"--trace {path}: has no requests; write one JSON object per line")
    return sorted(trace, key=lambda request: request.timestamp)


def _request(path: Path, number: int, line: bytes) -> TraceRequest:
    try:
        request = msgspec.json.decode(line, type=TraceRequest)
    except msgspec.DecodeError as error:
        raise ArgumentError(f"--trace {path}: line {number}: {error}") from error
    if len(request.hash_ids) > -(-request.input_length // BLOCK_TOKENS):
        raise ArgumentError(
            f"--trace {path}: line {number}: {len(request.hash_ids)} hash_ids are more than "
            f"{request.input_length} tokens have blocks of {BLOCK_TOKENS}"
        )
    return request


@dataclass(frozen=True, slots=True)
class TraceReplay:
    """
    Turns a trace into a workload: each request is a conversation of one turn.

    Args:
        speed: With 2, two seconds of the trace take one.
        seed: Other seeds give the same blocks another text.

    """

    trace: list[TraceRequest]
    scale: TextScale
    keys: KeyRing
    speed: float
    seed: tuple[int, ...]

    def conversations(self) -> Iterator[Conversation]:
        """Yields every request of the trace; the first one is due at once."""
        first_ms = self.trace[0].timestamp
        block = lru_cache(_NUM_CACHED_BLOCKS)(self._block)
        for number, request in enumerate(self.trace):
            words = [word for hash_id in request.hash_ids for word in block(hash_id)]
            words = words[: self._num_words(request.input_length)]
            num_missing = self._num_words(request.input_length) - len(words)
            words += words_from(rng_of(*self.seed, _REST, number), num_missing)
            yield Conversation(
                number,
                (request.timestamp - first_ms) / 1000 / self.speed,
                self.keys.draw(rng_of(*self.seed, _KEY, number)),
                None,
                (Turn(text_of(words), request.output_length),),
            )

    def _block(self, hash_id: int) -> list[str]:
        return words_from(rng_of(*self.seed, _BLOCK, hash_id), self._num_words(BLOCK_TOKENS))

    def _num_words(self, num_tokens: int) -> int:
        """Returns how many words make *num_tokens*; equal blocks always get the same number."""
        num_blocks, num_rest = divmod(num_tokens, BLOCK_TOKENS)
        per_word = self.scale.tokens_per_word
        return max(1, num_blocks * round(BLOCK_TOKENS / per_word) + round(num_rest / per_word))
