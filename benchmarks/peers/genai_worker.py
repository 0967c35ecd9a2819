"""
Runs openvino-genai's ContinuousBatchingPipeline in an environment without stillhouse.

    python -m benchmarks.peers.genai_worker IR THREADS KV_TOKENS
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai

from benchmarks.peers.stepped import AnswerPipe, serve

BLOCK_TOKENS = 32
BATCH_TOKENS = 1024


class GenAI:
    """A pipeline that is driven step by step."""

    def __init__(self, directory: str, *, num_threads: int, kv_tokens: int) -> None:
        config = openvino_genai.SchedulerConfig()
        config.num_kv_blocks = kv_tokens // BLOCK_TOKENS
        config.max_num_batched_tokens = BATCH_TOKENS
        config.dynamic_split_fuse = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            directory, config, "CPU", {"INFERENCE_NUM_THREADS": num_threads}
        )
        self._num_requests = 0
        self._answers: dict[int, Any] = {}

    def add(self, prompt: list[int], max_tokens: int, temperature: float, top_p: float) -> int:
        """Add a request and return its id."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.ignore_eos = True
        config.set_eos_token_id(0)
        if temperature > 0:
            config.do_sample = True
            config.temperature, config.top_p = temperature, top_p
        self._num_requests += 1
        ids = ov.Tensor(np.array([prompt], np.int64))
        answer = self._pipeline.add_request(self._num_requests, ids, config)
        self._answers[self._num_requests] = answer
        return self._num_requests

    def step(self) -> list[tuple[int, list[int]]]:
        """Compute one step and return the new tokens."""
        self._pipeline.step()
        steps = []
        for number, answer in self._answers.items():
            while answer.can_read():
                new = [int(id_) for part in answer.read().values() for id_ in part.generated_ids]
                steps.append((number, new))
        if not self.has_work:
            self._answers.clear()
        return steps

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._pipeline.has_non_finished_requests())


def main() -> None:
    """Load, then answer batches."""
    pipe = AnswerPipe()
    directory, num_threads, kv_tokens = sys.argv[1:]
    serve(GenAI(directory, num_threads=int(num_threads), kv_tokens=int(kv_tokens)), pipe)


if __name__ == "__main__":
    main()
