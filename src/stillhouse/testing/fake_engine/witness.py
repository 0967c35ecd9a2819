"""Writes the witness log: every token and end, on the disk before the gateway receives it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.engines.base import EngineFinish


class WitnessLog:
    """
    Appends JSON lines: a token made, or a sequence's end.

    Args:
        path: None writes nothing.

    """

    def __init__(self, path: Path | None) -> None:
        self._file = path and path.open("ab", buffering=0)
        # A kill may have cut the last line short; a newline keeps the next one intact.
        self._lines = [b"\n"]

    def made(self, request_id: str, *, index: int, token: int) -> None:
        """Records the token at *index* of a completion."""
        self._note({"request_id": request_id, "index": index, "token": token})

    def ended(self, request_id: str, finish: EngineFinish, *, num_tokens: int) -> None:
        """Records the end of a completion, which gets no further token."""
        self._note({"request_id": request_id, "finish": finish, "num_tokens": num_tokens})

    def sync(self) -> None:
        """Returns when everything noted is on the disk."""
        if self._file and self._lines:
            self._file.write(b"".join(self._lines))
            os.fsync(self._file.fileno())
            self._lines.clear()

    def close(self) -> None:
        """Closes the log."""
        if self._file:
            self._file.close()

    def _note(self, fact: dict[str, Any]) -> None:
        if self._file:
            self._lines.append(json.dumps(fact).encode() + b"\n")


@dataclass(slots=True)
class Witnessed:
    """
    Holds the witness log's records of one request.

    Args:
        token_ids: All tokens made for it; those of several answers one after the other.
        finish: Finish of its last sequence; None if one of them has no recorded end.

    """

    token_ids: list[int]
    finish: EngineFinish | None = None


def read_witness_log(path: Path) -> dict[str, Witnessed]:
    """
    Returns the records of a log, by request id.

    A request with several answers is several sequences, "ID", "ID/1", "ID/2" and so on, and one
    request of that id here. A request that a crash has sent back to the queue before any token was
    sent starts again from its first token.
    """
    by_sequence: dict[str, Witnessed] = {}
    for fact in _facts(path):
        of_sequence = by_sequence.setdefault(fact["request_id"], Witnessed([]))
        if "finish" in fact:
            assert fact["num_tokens"] == len(of_sequence.token_ids), fact
            of_sequence.finish = EngineFinish(fact["finish"])
        else:
            if fact["index"] == 0 and of_sequence.finish is None:
                of_sequence.token_ids.clear()
            assert fact["index"] == len(of_sequence.token_ids), fact
            of_sequence.token_ids.append(fact["token"])
    return _by_request(by_sequence)


def _by_request(by_sequence: dict[str, Witnessed]) -> dict[str, Witnessed]:
    by_request: dict[str, Witnessed] = {}
    for sequence, witnessed in by_sequence.items():
        request_id = sequence.partition("/")[0]
        if request_id not in by_request:
            by_request[request_id] = Witnessed([], witnessed.finish)
        request = by_request[request_id]
        request.token_ids += witnessed.token_ids
        request.finish = request.finish and witnessed.finish
    return by_request


def _facts(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records; a line that a kill has cut short is skipped, as it was never sent."""
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
