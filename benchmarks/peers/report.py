"""Prints results as Markdown, also of an interrupted run: ``report.py JSON``."""

from __future__ import annotations

import statistics
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.results import Results

SERVICE, ENGINE = "stillhouse serve", "stillhouse engine"
LLAMA, GENAI = "llama-server", "openvino-genai"
ENGINES = (SERVICE, LLAMA, ENGINE, GENAI)
RATIOS = ((SERVICE, LLAMA), (ENGINE, GENAI), (SERVICE, ENGINE))
STILLHOUSE, LITELLM = "stillhouse, fake engine", "LiteLLM proxy"
UPSTREAM, LLAMA_TINY = (
    "LiteLLM's upstream, asked directly",
    "llama-server, its engine's time left out",
)
GATEWAYS = (STILLHOUSE, LITELLM, UPSTREAM, LLAMA_TINY)
PREFILL = "prefill"


def print_report(results: Results) -> None:
    """Print every table."""
    print_conditions(results)
    engine_cases = [case for case, by_name in results.cases.items() if set(by_name) & set(ENGINES)]
    decode_cases = [case for case in engine_cases if not case.startswith(PREFILL)]
    if engine_cases:
        print("\nTokens per second\n")
        print_rates(results, engine_cases)
    if decode_cases:
        print("\nSeconds to the first token, all streams sent at once\n")
        print_first_tokens(results, decode_cases)
    if len(engine_cases) < len(results.cases):
        print("\nGateways\n")
        print_gateways(results)


def print_conditions(results: Results) -> None:
    """Print the machine, and each contender's version, command and settings."""
    print(f"- rounds: {results.num_rounds}")
    for name, value in results.conditions.items():
        print(f"- {name}: {value}")
    for name, contender in results.contenders.items():
        print(f"- {name} {contender['version']}: `{contender['command']}`")
        if contender["config"]:
            print("\n" + textwrap.indent(contender["config"], "      "))
    for name, agreement in results.agreement.items():
        print(f"- first greedy tokens that {name} and {ENGINE} agree on: {agreement}")
    if results.measured_s:
        share = results.waiting_cpu_s / results.measured_s
        print(f"- contenders that waited took {share:.1%} of a core, all together")


def print_rates(results: Results, cases: list[str]) -> None:
    """Print tokens per second, of decoding or of the prompt."""
    names = [name for name in ENGINES if any(results.cases[case].get(name) for case in cases)]
    pairs = [pair for pair in RATIOS if set(pair) <= set(names)]
    print_row(["", *names, *(f"{ours} / {theirs}" for ours, theirs in pairs)])
    print_row(["---", *["---:"] * (len(names) + len(pairs))])
    for case in cases:
        rates = {name: rates_of(results, case, name) for name in names}
        ratios = [median_ratio(rates[ours], rates[theirs]) for ours, theirs in pairs]
        print_row([case, *(spread(rates[name]) for name in names), *ratios])


def rates_of(results: Results, case: str, name: str) -> list[float]:
    """Return tokens per second of each round: of the prompt for a prefill, else of the answer."""
    if case.startswith(PREFILL):
        num_tokens = int(case.split()[1])
        return [num_tokens / s for s in results.figures(case, name, "first_token_s")]
    return results.figures(case, name, "decode")


def print_first_tokens(results: Results, cases: list[str]) -> None:
    """Print the times to first token."""
    names = [name for name in ENGINES if any(results.cases[case].get(name) for case in cases)]
    print_row(["", *names])
    print_row(["---", *["---:"] * len(names)])
    for case in cases:
        waits = [results.figures(case, name, "first_token_s") for name in names]
        print_row([case, *(spread(wait_s, ".2f") for wait_s in waits)])


def print_gateways(results: Results) -> None:
    """Print the latency and rate of each load on each gateway."""
    print_row(["", "gateway", "p50 ms", "p99 ms", "requests or tokens / s"])
    print_row(["---", "---", "---:", "---:", "---:"])
    for case, by_name in results.cases.items():
        for name in [name for name in GATEWAYS if name in by_name]:
            times_ms = [results.figures(case, name, key) for key in ("p50_ms", "p99_ms")]
            row = [spread(time_ms, ".2f") for time_ms in times_ms]
            per_s = results.figures(case, name, "per_s")
            row += ["" if name == LLAMA_TINY else spread(per_s, ",.0f")]
            print_row([case, name, *row])


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Return the median, with minimum and maximum if there are several values."""
    if not values:
        return ""
    middle = f"{statistics.median(values):{form}}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median of each round's ratio, or nothing if one of them was not measured."""
    if not ours or len(ours) != len(theirs):
        return ""
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


def print_row(cells: list[str]) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    print_report(Results.load(Path(sys.argv[1])))
