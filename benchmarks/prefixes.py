"""
Measures waiting times that prefix caching and chunked prefill affect, about two minutes at 1B.

    python -m benchmarks.prefixes [--shape tiny]

Three situations in the embedded engine, driven step by step in this process: a chat of ten turns,
sixteen users at once on an uncached system prompt, and a long prompt that arrives while four
answers are being generated.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.checkpoints.random_weights import SHAPES, make_checkpoint
from stillhouse.engines.base import GenerateRequest, GenerateStep
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.settings import EngineSettings, WeightFormat

NUM_TURNS = 10
TURN_TOKENS = 64  # of a question, and of its answer
NUM_USERS = 16
SYSTEM_TOKENS = 2048
NUM_STREAMS = 4
ARRIVING_TOKENS = 1024
BEGUN_TOKENS = 10  # of each stream before the long prompt arrives


class Answer:
    """One request and the times of its tokens, in seconds of the performance counter."""

    def __init__(self, prompt: list[int]) -> None:
        self.prompt = prompt
        self.start_s = time.perf_counter()
        self.token_ids: list[int] = []
        self.times_s: list[float] = []

    @property
    def first_token_s(self) -> float:
        """The time to the first token."""
        return self.times_s[0] - self.start_s

    def longest_pause_s(self, since_s: float, until_s: float) -> float:
        """Return the longest gap between two tokens within a span of time."""
        pauses = itertools.pairwise(self.times_s)
        return max(
            (after - before for before, after in pauses if after > since_s and before < until_s),
            default=0.0,
        )


class Bench:
    """The embedded engine without its process, and its running answers."""

    def __init__(self, settings: EngineSettings, vocab_size: int) -> None:
        self._runner = load_runner(settings, lambda _: None)
        self._vocab_size = vocab_size
        self._generator = np.random.default_rng()
        self._answers: list[Answer] = []

    def draw(self, num_tokens: int) -> list[int]:
        """Return tokens that no earlier request had."""
        drawn: list[int] = self._generator.integers(1, self._vocab_size, num_tokens).tolist()
        return drawn

    def ask(self, prompt: list[int], max_tokens: int) -> Answer:
        """Add a request."""
        answer = Answer(prompt)
        self._answers.append(answer)
        sequence_id = len(self._answers)
        self._runner.add(sequence_id, GenerateRequest(str(sequence_id), prompt, max_tokens))
        return answer

    def step(self) -> None:
        """Compute a step."""
        steps = self._runner.step(lambda: None)
        now_s = time.perf_counter()
        for sequence_id, step in steps:
            if not isinstance(step, GenerateStep):
                raise step
            answer = self._answers[sequence_id - 1]
            answer.token_ids += step.token_ids
            answer.times_s += [now_s] * len(step.token_ids)

    def finish(self) -> None:
        """Step until every answer is complete."""
        while self._runner.has_work:
            self.step()


def chat(bench: Bench) -> list[float]:
    """Return the time to first token of each turn."""
    history = bench.draw(TURN_TOKENS)
    first_token_s = []
    for _ in range(NUM_TURNS):
        answer = bench.ask(history + bench.draw(TURN_TOKENS), TURN_TOKENS)
        bench.finish()
        history = answer.prompt + answer.token_ids
        first_token_s.append(answer.first_token_s)
    return first_token_s


def crowd(bench: Bench, num_users: int) -> float:
    """Return the longest time to first token of *num_users* that share a new system prompt."""
    system = bench.draw(SYSTEM_TOKENS)
    answers = [bench.ask(system + bench.draw(TURN_TOKENS // 4), 8) for _ in range(num_users)]
    bench.finish()
    return max(answer.first_token_s for answer in answers)


def interruption(bench: Bench) -> tuple[float, float]:
    """Return the longest gap of the running streams, and the new one's time to first token."""
    streams = [bench.ask(bench.draw(32), 1000) for _ in range(NUM_STREAMS)]
    while any(len(stream.token_ids) < BEGUN_TOKENS for stream in streams):
        bench.step()
    arriving = bench.ask(bench.draw(ARRIVING_TOKENS), 1)
    while not arriving.times_s:
        bench.step()
    until_s = arriving.times_s[0]
    for _ in range(2):
        bench.step()
    pauses_s = [stream.longest_pause_s(arriving.start_s, until_s) for stream in streams]
    return max(pauses_s), arriving.first_token_s


def main() -> None:
    """Load the engine, measure the three situations, and print a Markdown table."""
    arguments = parse_arguments()
    place = arguments.directory / arguments.shape
    make_checkpoint(place, arguments.shape)
    settings = EngineSettings(
        checkpoint_dir=place,
        cache_dir=place / "cache",
        weights=arguments.weights,
        context_length=2 * SYSTEM_TOKENS,
        max_sequences=NUM_USERS,
        target_pause_s=arguments.target_pause_ms / 1000,
    )
    bench = Bench(settings, SHAPES[arguments.shape]["vocab_size"])
    print("| what | seconds |\n|---|---:|")
    turns_s = chat(bench)
    print(f"| chat: first token of turn 2 | {turns_s[1]:.3f} |")
    print(f"| of turn {NUM_TURNS} | {turns_s[-1]:.3f} ({turns_s[-1] / turns_s[1]:.2f} times) |")
    alone_s = crowd(bench, 1)
    print(f"| unseen system prompt of {SYSTEM_TOKENS}: one user's first token | {alone_s:.2f} |")
    last_s = crowd(bench, NUM_USERS)
    print(f"| the last of {NUM_USERS} at once | {last_s:.2f} ({last_s / alone_s:.2f} times) |")
    pause_s, first_token_s = interruption(bench)
    print(f"| {NUM_STREAMS} streams, {ARRIVING_TOKENS} tokens arrive: pause | {pause_s:.3f} |")
    print(f"| the arriving one's first token | {first_token_s:.2f} |")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What waiting feels like.")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--weights", type=WeightFormat, default=WeightFormat.INT8)
    parser.add_argument("--target-pause-ms", type=int, default=200)
    parser.add_argument(
        "--directory", type=Path, default=Path(tempfile.gettempdir()) / "stillhouse-benchmark"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
