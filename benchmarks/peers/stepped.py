"""
Drives an engine step by step: reads a batch as a line of JSON, and writes its tokens.

It imports nothing of stillhouse, so that a peer's own environment can run it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Protocol

NUM_FIRST_TOKENS = 1


class SteppedEngine(Protocol):
    """An engine that computes one step per call."""

    def add(self, prompt: list[int], max_tokens: int, temperature: float, top_p: float) -> int:
        """Add a request and return its id."""

    def step(self) -> list[tuple[int, list[int]]]:
        """Compute one step and return the new tokens."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""


class AnswerPipe:
    """The standard output, reserved for answers: libraries print to the standard error instead."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def write(self, answer: Any) -> None:
        """Write one line of JSON."""
        self._file.write(json.dumps(answer) + "\n")


def serve(engine: SteppedEngine, pipe: AnswerPipe) -> None:
    """Answer every line of the standard input until it ends."""
    pipe.write({"ready": True})
    for line in sys.stdin:
        pipe.write(run_batch(engine, **json.loads(line)))


def run_batch(
    engine: SteppedEngine,
    *,
    prompts: list[list[int]],
    new_tokens: int,
    temperature: float,
    top_p: float,
) -> list[dict[str, Any]]:
    """Return, for each prompt, the times and numbers of its tokens, and the first token ids."""
    start_s = time.perf_counter()
    numbers = [engine.add(prompt, new_tokens, temperature, top_p) for prompt in prompts]
    arrivals: dict[int, list[tuple[float, int]]] = {number: [] for number in numbers}
    tokens: dict[int, list[int]] = {number: [] for number in numbers}
    while engine.has_work:
        steps = engine.step()
        time_s = time.perf_counter() - start_s
        for number, new in steps:
            if new:
                arrivals[number].append((time_s, len(new)))
                tokens[number] += new
    return [
        {"arrivals": arrivals[number], "first_tokens": tokens[number][:NUM_FIRST_TOKENS]}
        for number in numbers
    ]
