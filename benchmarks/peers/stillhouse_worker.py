"""
Runs the embedded engine alone.

    python -m benchmarks.peers.stillhouse_worker CHECKPOINT CACHE THREADS KV_CACHE_MIB
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.stepped import AnswerPipe, serve
from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.settings import EngineSettings
from stillhouse.errors import InvalidRequestError
from stillhouse.types.sampling import SamplingParams

MIB = 1 << 20


class Stillhouse:
    """The embedded engine with the settings that the service gives it."""

    def __init__(self, settings: EngineSettings) -> None:
        self._runner = load_runner(settings, lambda _: None)
        self._num_requests = 0

    def add(self, prompt: list[int], max_tokens: int, temperature: float, top_p: float) -> int:
        """Add a request and return its id."""
        self._num_requests += 1
        sampling = SamplingParams(temperature=temperature, top_p=top_p)
        request = GenerateRequest(str(self._num_requests), prompt, max_tokens, sampling)
        self._runner.add(self._num_requests, request)
        return self._num_requests

    def step(self) -> list[tuple[int, list[int]]]:
        """Compute one step and return the new tokens."""
        steps = []
        for number, step in self._runner.step(lambda: None):
            if isinstance(step, InvalidRequestError):
                raise step
            steps.append((number, list(step.token_ids)))
        return steps

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return self._runner.has_work


def main() -> None:
    """Load, then answer batches."""
    pipe = AnswerPipe()
    checkpoint, cache, num_threads, kv_cache_mib = sys.argv[1:]
    settings = EngineSettings(
        checkpoint_dir=Path(checkpoint),
        cache_dir=Path(cache),
        kv_cache_bytes=int(kv_cache_mib) * MIB,
        num_threads=int(num_threads),
        max_draft_tokens=0,  # as run.py says
    )
    serve(Stillhouse(settings), pipe)


if __name__ == "__main__":
    main()
