"""The witness: what the engine did, on the disk before anybody is told."""

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
        # A kill may have cut the last line short; what follows shall not be lost with it.
        self._lines = [b"\n"]

    def made(self, request_id: str, *, index: int, token: int) -> None:
        """Note the token at *index* of a completion."""
        self._note({"request_id": request_id, "index": index, "token": token})

    def ended(self, request_id: str, finish: EngineFinish, *, num_tokens: int) -> None:
        """Note that a completion ended, of which there will be no further token."""
        self._note({"request_id": request_id, "finish": finish, "num_tokens": num_tokens})

    def sync(self) -> None:
        """Return when everything noted is on the disk."""
        if self._file and self._lines:
            self._file.write(b"".join(self._lines))
            os.fsync(self._file.fileno())
            self._lines.clear()

    def close(self) -> None:
        """Write no more."""
        if self._file:
            self._file.close()

    def _note(self, fact: dict[str, Any]) -> None:
        if self._file:
            self._lines.append(json.dumps(fact).encode() + b"\n")


@dataclass(slots=True)
class Witnessed:
    """What the witness has to say of one request; `finish` is None when it was never ended."""

    token_ids: list[int]
    finish: EngineFinish | None = None


def read_witness_log(path: Path) -> dict[str, Witnessed]:
    """Return what was written, by request id."""
    facts_by_id: dict[str, Witnessed] = {}
    for fact in _facts(path):
        of_request = facts_by_id.setdefault(fact["request_id"], Witnessed([]))
        if "finish" in fact:
            assert fact["num_tokens"] == len(of_request.token_ids), fact
            of_request.finish = EngineFinish(fact["finish"])
        else:
            assert fact["index"] == len(of_request.token_ids), fact
            of_request.token_ids.append(fact["token"])
    return facts_by_id


def _facts(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what was noted; a line that a kill has cut short was never acted upon."""
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
