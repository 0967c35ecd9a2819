"""
Compares stillhouse with its peers: the same weights, prompts and machine, in one interleaved run.

    python -m benchmarks.peers.run --rounds 3
    python -m benchmarks.peers.plot docs/peers.svg

Engines: the whole service over HTTP (`stillhouse serve`, streams) and its engine alone, beside
llama.cpp's server (the wheel `xllamacpp` on PyPI, Q8_0) over HTTP and openvino-genai's
ContinuousBatchingPipeline (the same int8 weights) alone. The weights are random, in the shape of
Llama-3.2-1B; prompts are uncached token ids; the end token is ignored, or the measurement is
repeated if it came; sampled means temperature 0.6 and top-p 0.95. Speculation is off: random
weights repeat themselves when greedy, so draft tokens would always be accepted (speculation.py
measures real text). One contender computes at a time, the others wait loaded, and the order
rotates with every round.

Gateways: see gateways.py. All of it takes about 15 minutes for three rounds on two cores, 8 GB of
memory and 7 GB of disk; ``--shape tiny --quick`` shows in two minutes that it works.

Peers are installed into environments of their own from requirements-*.txt at first use. Every
figure is written to a JSON file at once; ``--append`` adds rounds to it, so that a long run may be
done in pieces. The output is Markdown: medians (minimum to maximum) over the rounds, and the median
of each round's ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.peers.checkpoints import make_gguf, make_ir, make_safetensors
from benchmarks.peers.contenders import (
    Batch,
    Contender,
    EndedEarlyError,
    Setting,
    llama_server,
    openvino_genai,
    stillhouse_engine,
    stillhouse_service,
)
from benchmarks.peers.environments import python_of
from benchmarks.peers.gateways import measure_gateways
from benchmarks.peers.processes import cpu_seconds
from benchmarks.peers.report import print_report
from benchmarks.peers.results import Results
from benchmarks.peers.timeline import Stream, figures
from stillhouse.engines.openvino.machine import num_physical_cores

ENGINES: dict[str, Callable[[Setting], AbstractAsyncContextManager[Contender]]] = {
    "service": stillhouse_service,
    "engine": stillhouse_engine,
    "llama-server": llama_server,
    "openvino-genai": openvino_genai,
}
GATEWAYS = "gateways"
STREAMS = (1, 4, 8, 16)
PREFILL_TOKENS = 1024
PROMPT_TOKENS = 32
FIRST_WORD = 256  # lower ids are single bytes, and the last two are special
MAX_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A measurement of *num_streams* at once."""

    name: str
    num_streams: int
    prompt_tokens: int
    new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


def cases(*, new_tokens: int) -> list[Case]:
    """Return the measurements, in order."""
    listed = [Case(f"prefill {PREFILL_TOKENS}", 1, PREFILL_TOKENS, 1)]
    for name, temperature, top_p in (("greedy", 0.0, 1.0), ("sampled", 0.6, 0.95)):
        listed += [
            Case(f"{name} {streams}", streams, PROMPT_TOKENS, new_tokens, temperature, top_p)
            for streams in STREAMS
        ]
    return listed


async def main() -> None:
    """Run the chosen measurements, then print all results."""
    arguments = parse_arguments()
    place = arguments.directory / arguments.shape
    output = arguments.output or place / "peers.json"
    results = Results.load(output) if arguments.append else Results(output)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            make_safetensors(place, arguments.shape),
            arguments.threads or num_physical_cores(),
            arguments.directory / "environments",
            Path(folder),
        )
        engines = [name for name in ENGINES if name in arguments.only]
        if engines:
            describe(results, arguments, setting.num_threads)
            prepare(setting, engines)
            await measure_engines(setting, engines, results, arguments)
        if GATEWAYS in arguments.only:
            tiny = make_safetensors(arguments.directory / "tiny", "tiny")
            setting = replace(setting, forms=tiny)
            prepare(setting, ["llama-server"])
            await measure_gateways(
                setting, results, num_rounds=arguments.rounds, seconds=arguments.seconds
            )
    print_report(results)


def prepare(setting: Setting, engines: list[str]) -> None:
    """Convert the weights to the format of each of *engines*."""
    if "llama-server" in engines:
        make_gguf(setting.forms, python_of("llama-server", setting.environments))
    if "openvino-genai" in engines:
        make_ir(setting.forms, num_threads=setting.num_threads)


def describe(results: Results, arguments: argparse.Namespace, num_threads: int) -> None:
    """Record the conditions of the figures; added rounds must have the same."""
    conditions = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "threads": num_threads,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "shape": arguments.shape,
        "new_tokens": arguments.new_tokens,
        "prompt_tokens": PROMPT_TOKENS,
    }
    for name in ("threads", "shape", "new_tokens", "prompt_tokens"):
        before = results.conditions.get(name, conditions[name])
        if before != conditions[name]:
            raise SystemExit(
                f"{results.path}: its rounds have {name} = {before}, not {conditions[name]}."
            )
    results.conditions = conditions


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


async def measure_engines(
    setting: Setting, engines: list[str], results: Results, arguments: argparse.Namespace
) -> None:
    """Load all engines, then measure every case in every round, in rotating order."""
    async with AsyncExitStack() as stack:
        contenders: list[Contender] = []
        for name in engines:
            new = await stack.enter_async_context(ENGINES[name](setting))
            results.describe(new.name, new.version, new.command, new.config)
            contenders.append(new)
        prompts = Prompts(setting.forms.vocab_size)
        await check_first_tokens(contenders, prompts, results)
        for _ in range(arguments.rounds):
            number = results.next_round()
            first = number % len(contenders)
            order = contenders[first:] + contenders[:first]
            for case in cases(new_tokens=arguments.new_tokens):
                await measure_case(case, order, prompts, results)


class Prompts:
    """Generates prompts of random token ids, none of which repeats."""

    def __init__(self, vocab_size: int) -> None:
        self._generator = np.random.default_rng()
        self._vocab_size = vocab_size

    def draw(self, num_prompts: int, num_tokens: int) -> list[list[int]]:
        """Return new prompts."""
        shape = (num_prompts, num_tokens)
        ids: list[list[int]] = self._generator.integers(
            FIRST_WORD, self._vocab_size - 2, shape
        ).tolist()
        return ids


async def check_first_tokens(
    contenders: list[Contender], prompts: Prompts, results: Results
) -> None:
    """Warm up, and count how often a greedy first token is the one of the majority."""
    asked = Batch(prompts.draw(16, PROMPT_TOKENS), new_tokens=4)
    answers = {contender.name: await contender.run(asked) for contender in contenders}
    told = {name: first_tokens(streams) for name, streams in answers.items()}
    reference = told.get("stillhouse engine")
    for name, tokens in told.items():
        if reference and tokens and name != "stillhouse engine":
            same = sum(ours == theirs for ours, theirs in zip(reference, tokens, strict=True))
            results.agreement[name] = f"{same} of {len(tokens)}"


def first_tokens(streams: list[Stream]) -> list[int]:
    """Return the first token of each stream that reports it."""
    return [stream.first_tokens[0] for stream in streams if stream.first_tokens]


async def measure_case(
    case: Case, order: list[Contender], prompts: Prompts, results: Results
) -> None:
    """Measure all contenders with the same prompts, and the idle ones' processor time meanwhile."""
    for _ in range(MAX_REPEATS):
        asked = prompts.draw(case.num_streams, case.prompt_tokens)
        batch = Batch(asked, case.new_tokens, case.temperature, case.top_p)
        try:
            measured = {
                contender.name: figures(await run_alone(contender, order, batch, results))
                for contender in order
            }
        except EndedEarlyError as error:
            print(f"{case.name}: again, as a stream ended early: {error}")
            continue
        if case.new_tokens > 1 and not all(figure.decode for figure in measured.values()):
            print(f"{case.name}: again, as the streams never ran all at once")
            continue
        for name, figure in measured.items():
            results.add(case.name, name, asdict(figure))
        results.save()
        return
    raise SystemExit(f"{case.name}: no luck in {MAX_REPEATS} attempts.")


async def run_alone(
    contender: Contender, all_of_them: list[Contender], batch: Batch, results: Results
) -> list[Stream]:
    """Run *batch*, and record the others' processor time meanwhile."""
    others = [other.pid for other in all_of_them if other is not contender]
    before_s, start_s = sum(map(cpu_seconds, others)), time.perf_counter()
    streams = await contender.run(batch)
    results.measured_s += time.perf_counter() - start_s
    results.waiting_cpu_s += sum(map(cpu_seconds, others)) - before_s
    return streams


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = [*ENGINES, GATEWAYS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3, help="of each load on each gateway")
    parser.add_argument("--quick", action="store_true", help="one round, with less of everything")
    parser.add_argument("--shape", choices=["1b", "tiny"], default="1b")
    parser.add_argument("--threads", type=int, help="default: every physical core")
    parser.add_argument("--append", action="store_true", help="add rounds to what --output holds")
    parser.add_argument("--output", type=Path, help="default: peers.json beside the weights")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()) / "stillhouse-benchmark",
        help="keeps the weights in all forms (6.5 GB) and the peers' environments for next time",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.new_tokens, arguments.seconds = 1, 12, 1
    return arguments


if __name__ == "__main__":
    uvloop.run(main())
