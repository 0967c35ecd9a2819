"""
Compares the embedded engine with openvino-genai.

    python -m benchmarks.engine [--rounds N] [--quick]

Both run in this process on the same quantised weights, interleaved, and are driven step by step.
The table has medians of tokens per second: of a prompt of 1024 tokens, and of decoding at 1, 4, 8
and 16 streams, greedy and sampled (temperature 0.6, top-p 0.95), with their ratio and the share of
the memory bandwidth's limit, at which every step reads all weights once.

openvino-genai is in requirements/benchmark.txt, which needs a virtual environment of its own;
without it the embedded engine is measured alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov

from benchmarks.checkpoints.openvino_ir import save_ir
from benchmarks.checkpoints.random_weights import SHAPES, make_checkpoint
from stillhouse.engines.base import GenerateRequest, GenerateStep
from stillhouse.engines.openvino.graph.architecture import read_architecture
from stillhouse.engines.openvino.graph.weights_cache import load_weights
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.machine import num_physical_cores
from stillhouse.engines.openvino.settings import EngineSettings, WeightFormat
from stillhouse.types.sampling import SamplingParams

try:
    import openvino_genai
except ImportError:
    openvino_genai = None

KV_CACHE_TOKENS = 16 * 1024
BATCH_TOKENS = 1024
PREFILL_TOKENS = 1024
PROMPT_TOKENS = 32  # before decoding
BANDWIDTH_BYTES = 512 * 1024 * 1024  # read per measurement, far more than any cache
SAMPLED = SamplingParams(temperature=0.6, top_p=0.95)
GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A measurement: tokens per second of *num_streams* at once."""

    name: str
    num_streams: int
    prompt_tokens: int
    new_tokens: int
    sampling: SamplingParams

    @property
    def is_prefill(self) -> bool:
        """Whether prompt tokens are counted, instead of generated ones."""
        return self.new_tokens == 1


class Contender(Protocol):
    """An engine that is driven step by step."""

    name: str

    def add(self, prompt: list[int], max_tokens: int, sampling: SamplingParams) -> None:
        """Add a request."""

    def step(self) -> list[int]:
        """Compute one step and return, for each new token, the id of its request."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""


class Stillhouse:
    """The embedded engine without its process."""

    name = "stillhouse"

    def __init__(self, settings: EngineSettings) -> None:
        self._runner = load_runner(settings, lambda _: None)
        self._num_requests = 0

    def add(self, prompt: list[int], max_tokens: int, sampling: SamplingParams) -> None:
        """Add a request."""
        self._num_requests += 1
        request = GenerateRequest(str(self._num_requests), prompt, max_tokens, sampling)
        self._runner.add(self._num_requests, request)

    def step(self) -> list[int]:
        """Compute one step and return, for each new token, the id of its request."""
        steps = self._runner.step(lambda: None)
        return [
            sequence_id
            for sequence_id, step in steps
            if isinstance(step, GenerateStep)  # the other kind refuses a grammar: there is none
            for _ in step.token_ids
        ]

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return self._runner.has_work


class GenAI:
    """openvino-genai's ContinuousBatchingPipeline."""

    name = "openvino-genai"

    def __init__(self, directory: Path, *, num_threads: int, block_size: int = 32) -> None:
        config = openvino_genai.SchedulerConfig()
        config.num_kv_blocks = KV_CACHE_TOKENS // block_size
        config.max_num_batched_tokens = BATCH_TOKENS
        config.dynamic_split_fuse = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(directory), config, "CPU", {"INFERENCE_NUM_THREADS": num_threads}
        )
        self._num_requests = 0
        self._answers: list[Any] = []

    def add(self, prompt: list[int], max_tokens: int, sampling: SamplingParams) -> None:
        """Add a request."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.ignore_eos = True
        config.set_eos_token_id(0)
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature, config.top_p = sampling.temperature, sampling.top_p
        self._num_requests += 1
        ids = ov.Tensor(np.array([prompt], np.int64))
        self._answers.append(self._pipeline.add_request(self._num_requests, ids, config))

    def step(self) -> list[int]:
        """Compute one step and return, for each new token, the id of its request."""
        self._pipeline.step()
        owners = []
        for number, answer in enumerate(self._answers):
            while answer.can_read():
                for part in answer.read().values():
                    owners += [number] * len(part.generated_ids)
        if not self.has_work:
            self._answers.clear()
        return owners

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._pipeline.has_non_finished_requests())


def measure(contender: Contender, case: Case, prompts: list[list[int]]) -> float:
    """Return tokens per second; decoding counts while every stream runs."""
    for prompt in prompts:
        contender.add(prompt, case.new_tokens, case.sampling)
    given: Counter[int] = Counter()
    num_counted, end_s = 0, 0.0
    start_s = time.perf_counter()
    while contender.has_work:
        has_begun = len(given) == case.num_streams
        owners = contender.step()
        given.update(owners)
        if not case.is_prefill and not has_begun:
            start_s = time.perf_counter()
        elif max(given.values(), default=0) < case.new_tokens:
            num_counted, end_s = num_counted + len(owners), time.perf_counter()
    if given.total() != case.num_streams * case.new_tokens:
        raise RuntimeError(f"{contender.name} gave {given.total()} tokens.")
    if case.is_prefill:
        return case.prompt_tokens / (time.perf_counter() - start_s)
    if not num_counted:
        raise RuntimeError(f"{case.name}: the first stream ended before the last began.")
    return num_counted / (end_s - start_s)


def cases(*, is_quick: bool) -> list[Case]:
    """Return the measurements, in order."""
    new_tokens = 24 if is_quick else 48
    listed = [Case(f"prefill {PREFILL_TOKENS}", 1, PREFILL_TOKENS, 1, GREEDY)]
    for name, sampling in (("greedy", GREEDY), ("sampled", SAMPLED)):
        for num_streams in (1, 4, 8, 16):
            title = f"decode {name}, {num_streams} stream{'s'[: num_streams - 1]}"
            listed.append(Case(title, num_streams, PROMPT_TOKENS, new_tokens, sampling))
    return listed


def read_bandwidth(num_threads: int) -> float:
    """Return the most bytes per second that *num_threads* threads read."""
    parts = [np.ones(BANDWIDTH_BYTES // num_threads // 8, np.int64) for _ in range(num_threads)]
    best_s = float("inf")
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in range(5):
            start_s = time.perf_counter()
            list(threads.map(np.max, parts))
            best_s = min(best_s, time.perf_counter() - start_s)
    return sum(part.nbytes for part in parts) / best_s


def processor() -> str:
    """Return the processor's name."""
    return str(ov.Core().get_property("CPU", "FULL_DEVICE_NAME"))


def main() -> None:
    """Prepare both engines, run all rounds, and print a Markdown table."""
    arguments = parse_arguments()
    num_threads = arguments.threads or num_physical_cores()
    place = arguments.directory / arguments.shape
    make_checkpoint(place, arguments.shape)
    settings = EngineSettings(
        checkpoint_dir=place,
        cache_dir=place / "cache",
        weights=arguments.weights,
        context_length=2 * PREFILL_TOKENS,
        max_sequences=16,
        max_batch_tokens=BATCH_TOKENS + 16,
        num_threads=num_threads,
        max_draft_tokens=0,  # random weights repeat themselves more than text does
    )
    architecture = read_architecture(place)
    weights = load_weights(
        settings, architecture, num_threads=num_threads, on_progress=lambda _: None
    )
    contenders: list[Contender] = []
    start_s = time.perf_counter()
    contenders.append(Stillhouse(settings))
    print(f"{contenders[0].name}: ready in {time.perf_counter() - start_s:.1f} s, weights packed")
    if openvino_genai is not None:
        ir = place / f"ir-{arguments.weights}"
        save_ir(architecture, weights, ir)
        contenders.append(GenAI(ir, num_threads=num_threads))
    floor = read_bandwidth(num_threads) / weights.content.nbytes
    print(f"{processor()}, {num_threads} threads, {arguments.shape} {arguments.weights},")
    print(f"OpenVINO {ov.__version__}; all weights can be read {floor:.1f} times per second.\n")
    listed = cases(is_quick=arguments.quick)
    results = run_rounds(contenders, listed, arguments.rounds, architecture.vocab_size)
    print_table(contenders, listed, results, floor)


def run_rounds(
    contenders: list[Contender], listed: list[Case], num_rounds: int, vocab_size: int
) -> dict[tuple[str, str], list[float]]:
    """Measure every case in every round, in alternating order; a first round warms up."""
    results: dict[tuple[str, str], list[float]] = {}
    generator = np.random.default_rng(0)
    for number in range(-1, num_rounds):
        for case in listed[:2] if number < 0 else listed:
            # No prompt is used twice, so that none is in the prefix cache.
            shape = (case.num_streams, case.prompt_tokens)
            for contender in contenders[:: -1 if number % 2 else 1]:
                prompts = generator.integers(1, vocab_size, shape).tolist()
                speed = measure(contender, case, prompts)
                if number >= 0:
                    results.setdefault((contender.name, case.name), []).append(speed)
    return results


def print_table(
    contenders: list[Contender],
    listed: list[Case],
    results: dict[tuple[str, str], list[float]],
    floor: float,
) -> None:
    """Print medians, the median of each round's ratio, and the share of the bandwidth's limit."""
    names = [contender.name for contender in contenders]
    titles = ["tokens/s", *names, *(["ratio"] if len(names) > 1 else []), "share of bandwidth"]
    print("| " + " | ".join(titles) + " |")
    print("|---" + "|---:" * (len(titles) - 1) + "|")
    for case in listed:
        speeds = [results[name, case.name] for name in names]
        row = [case.name, *(f"{statistics.median(speed):.1f}" for speed in speeds)]
        if len(speeds) > 1:
            ratios = [ours / theirs for ours, theirs in zip(*speeds, strict=True)]
            row.append(f"{statistics.median(ratios):.2f}")
        share = statistics.median(speeds[0]) / (floor * case.num_streams)
        row.append("" if case.is_prefill else f"{share:.0%}")
        print("| " + " | ".join(row) + " |")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="The embedded engine beside openvino-genai.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer tokens per measurement")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--weights", type=WeightFormat, default=WeightFormat.INT8)
    parser.add_argument("--threads", type=int, help="default: every physical core")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()) / "stillhouse-benchmark",
        help="keeps the checkpoint (2.5 GB), packed weights and IR (1.3 GB each) for next time",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
