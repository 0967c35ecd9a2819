"""
What a customer sees beside somebody who abuses the service, on this checkout and on an older one.

    python benchmarks/abuse.py --before PATH                 # a checkout of the commit to compare
    python benchmarks/abuse.py --before PATH --only many_keys --rounds 3
    python benchmarks/abuse.py --json abuse.json             # this checkout alone

For each attack, on each side in turn, a new server (the fake engine, or the demo model where the
engine's own work is attacked) and a victim who streams answers in a closed loop, three times:
alone, beside the attack on a sink, which reads everything and does nothing, beside the attack on
the server. The attacker is a process of its own, from another address, nicer than the victim to the
processor; as the two share it, what is compared is the victim beside the attack on the server with
the victim beside the attack on the sink. An answer that does not come in ten seconds counts as ten.

Attacks without a key are told by the gateway's memory (its peak before it is attacked, and while)
and by how long /livez takes; all of them by the victim's first tokens, gaps and answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from abuse_attackers import CRASH_SEED, Order
from abuse_sides import AttackerProcess, Server, Side, run_sink
from abuse_victim import Seen, Victim
from stillhouse.catalogue.demo_models import DEMO_MODEL

MOST_RATIO, MOST_MIB, MOST_LIVEZ_S = 1.25, 20.0, 0.1
ALONE_S, CONTROL_S = 2.0, 3.0
FAKE = """
[models."{model}"]
[engine]
kind = "fake"
[engine.fake]
slots = {slots}
first_token_s = {first_token_s}
token_interval_s = 0.01
faults = [{{ kind = "crash", at_token = 3, seed = {crash_seed} }}]
"""
DEMO = '[models."{model}"]\n'


@dataclass(frozen=True)
class Scenario:
    """
    An attack, and the victim that is beside it.

    Args:
        has_key: Whether the attacker is a customer.
        slots: Of the fake engine; None for the demo model.
        share: Of all tokens that the victim should get, where both want everything.
        may_fail: How many of the victim's requests fail by what is promised: those that ran when
            the engine crashed.
        first_token_s: Of the fake engine. Nothing takes a slot from who has it, so whoever comes to
            a full engine waits for the next free one; that tells of fairness where it is small
            beside this.
        is_about_answers: A wait is what is promised, so only unanswered requests miss an aim.

    """

    attack: str
    has_key: bool = True
    slots: int | None = 64
    seconds: float = 4.0
    concurrency: int = 4
    max_tokens: int = 8
    num_files: int = 4096
    has_new_schema: bool = False
    name: str = ""
    share: float | None = None
    may_fail: int = 0
    first_token_s: float = 0.1
    is_about_answers: bool = False

    @property
    def title(self) -> str:
        """Return what the tables call it."""
        return self.name or self.attack

    @property
    def config(self) -> str:
        """Return the server's configuration."""
        text = DEMO if self.slots is None else FAKE
        return text.format(
            model=DEMO_MODEL,
            slots=self.slots,
            first_token_s=self.first_token_s,
            crash_seed=CRASH_SEED,
        )


SCENARIOS = [
    Scenario("header_lines", has_key=False),
    Scenario("header_value", has_key=False),
    Scenario("pipelined", has_key=False),
    Scenario("silent_sockets", has_key=False, seconds=6, num_files=1024),
    Scenario("forged_tokens", has_key=False),
    Scenario("self_signed_tokens"),
    Scenario("many_keys", slots=32, first_token_s=0.5, seconds=6),
    Scenario("many_keys", name="many_keys_share", slots=8, concurrency=40, seconds=6, share=0.5),
    Scenario("slow_grammars", slots=None, seconds=8),
    Scenario("bad_schemas", slots=None, seconds=10, concurrency=1, has_new_schema=True),
    Scenario("large_bodies", slots=64),
    Scenario("worker_crash", slots=4, concurrency=40, seconds=3, may_fail=4, is_about_answers=True),
    Scenario("unread_streams"),
]


@dataclass
class Cell:
    """A scenario on one side, over all rounds."""

    alone: Seen = field(default_factory=Seen)
    control: Seen = field(default_factory=Seen)
    beside: Seen = field(default_factory=Seen)
    grown_mib: float = 0.0
    attacks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def first_token_ratio(self) -> float | None:
        """Return the p95 beside the attack, over that beside the same attack on a sink."""
        return ratio(self.beside.first_token_s, self.control.first_token_s)

    @property
    def gap_ratio(self) -> float | None:
        """Return the same of the gaps between tokens."""
        return ratio(self.beside.gap_s, self.control.gap_s)

    @property
    def kept(self) -> float:
        """Return the victim's answers a second, over those beside a sink."""
        control = self.control.num_answers / self.control.seconds
        return self.beside.num_answers / self.beside.seconds / control if control else 0.0

    @property
    def share(self) -> float:
        """Return the victim's part of all tokens that were answered."""
        others = sum(attack["tokens"] for attack in self.attacks)
        return self.beside.num_tokens / max(self.beside.num_tokens + others, 1)


def measure(scenario: Scenario, side: Side, sink_port: int, cell: Cell) -> None:
    """Measure a scenario once on one side."""
    with side.serve(scenario.config, num_files=scenario.num_files) as server:
        victim = Victim(
            server.port,
            server.victim_key,
            DEMO_MODEL,
            scenario.concurrency,
            {"max_tokens": scenario.max_tokens},
            scenario.has_new_schema,
        )
        account_id = account_id_of(server)
        uvloop.run(victim.ask_for(0.5))  # the first ones are slower
        cell.alone.add(uvloop.run(victim.ask_for(ALONE_S)))
        for port, seconds, seen in (
            (sink_port, CONTROL_S, cell.control),
            (server.port, scenario.seconds, cell.beside),
        ):
            order = Order(
                scenario.attack, port, seconds + 0.5, DEMO_MODEL, server.attacker_keys, account_id
            )
            attacker = AttackerProcess(order)
            server.forget_peak()
            before_mib = server.rss_mib()
            attacker.begin()
            seen.add(uvloop.run(_after_a_moment(victim, seconds)))
            done = attacker.end()
        cell.attacks.append(done)
        cell.grown_mib = max(cell.grown_mib, server.peak_rss_mib() - before_mib)


async def _after_a_moment(victim: Victim, seconds: float) -> Seen:
    await asyncio.sleep(0.3)
    return await victim.ask_for(seconds)


def account_id_of(server: Server) -> int:
    """Return the attacker's account, as its tokens must name it."""
    headers = {"Authorization": f"Bearer {server.attacker_keys[0]}"}
    response = httpx.get(f"http://127.0.0.1:{server.port}/v1/me", headers=headers)
    return int(response.json()["uid"].removeprefix("sh:"))


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which *share* of all are."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else None


def ratio(beside: Sequence[float], control: Sequence[float]) -> float | None:
    """Return the ratio of two p95s; None where there are no values."""
    above, below = percentile(beside, 0.95), percentile(control, 0.95)
    return above / below if above is not None and below else None


def ms(values: Sequence[float]) -> str:
    """Return p50, p95 and the most, in milliseconds."""
    if not values:
        return "–"
    return " / ".join(f"{1000 * (percentile(values, share) or 0):.0f}" for share in (0.5, 0.95, 1))


def times(value: float | None) -> str:
    """Return a ratio."""
    return "–" if value is None else f"{value:.2f}"


def misses(scenario: Scenario, cell: Cell) -> list[str]:
    """Say which aims were missed."""
    missed = []
    livez_s = percentile(cell.beside.livez_s, 0.99) or 0.0
    has_pace = scenario.share is None and not scenario.is_about_answers
    if has_pace and (cell.first_token_ratio or 99.0) > MOST_RATIO:
        missed.append("first token")
    if has_pace and (cell.gap_ratio or 99.0) > MOST_RATIO:
        missed.append("gaps")
    if scenario.share is None and sum(cell.beside.refused.values()) > scenario.may_fail:
        missed.append("answers")
    if scenario.share is not None and cell.share < 0.9 * scenario.share:
        missed.append("share")
    if not scenario.has_key and cell.grown_mib > MOST_MIB:
        missed.append("memory")
    if not scenario.has_key and livez_s > MOST_LIVEZ_S:
        missed.append("/livez")
    return missed


def row(scenario: Scenario, side: str, cell: Cell) -> dict[str, str]:
    """Return a line of the table."""
    refused = cell.beside.refused
    shown = {
        "attack": scenario.title,
        "side": side,
        "alone": ms(cell.alone.first_token_s),
        "beside a sink": ms(cell.control.first_token_s),
        "first token, ms": ms(cell.beside.first_token_s),
        "×": times(cell.first_token_ratio),
        "gap, ms": ms(cell.beside.gap_s),
        "× ": times(cell.gap_ratio),
        "answers": f"{cell.kept:.0%}",
        "failed": " ".join(f"{end} ×{n}" for end, n in sorted(refused.items())) or "none",
    }
    if scenario.has_key:
        shown["share"] = "" if scenario.share is None else f"{cell.share:.0%}"
    else:
        livez_s = percentile(cell.beside.livez_s, 0.99)
        shown["MiB more"] = f"{cell.grown_mib:.0f}"
        shown["/livez p99, ms"] = "–" if livez_s is None else f"{1000 * livez_s:.0f}"
    return shown | {"aims missed": ", ".join(misses(scenario, cell)) or "none"}


def print_table(title: str, rows: Sequence[dict[str, str]]) -> None:
    """Print Markdown whose columns are aligned."""
    if not rows:
        return
    head = list(rows[0])
    lines = [head, *(list(row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure every scenario on every side, round after round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout to compare this one with")
    parser.add_argument("--only", action="append", choices=[s.title for s in SCENARIOS])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to keep everything that was measured")
    options = parser.parse_args()
    chosen = [s for s in SCENARIOS if not options.only or s.title in options.only]
    rows: list[dict[str, str]] = []
    facts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, run_sink() as sink_port:
        roots = {"before": options.before, "after": Path(__file__).parents[1]}
        sides = [Side.prepare(name, root, Path(folder)) for name, root in roots.items() if root]
        print("; ".join(f"{side.name}: {side.commit}" for side in sides))
        for scenario in chosen:
            for name, cell in compare(scenario, sides, sink_port, options.rounds).items():
                rows.append(row(scenario, name, cell))
                facts.append({"scenario": asdict(scenario), "side": name, **asdict(cell)})
            if options.json:
                options.json.write_text(json.dumps(facts), encoding="utf-8")
    print_table("Without a key", [row for row in rows if "MiB more" in row])
    print_table("With a key", [row for row in rows if "share" in row])
    print("\nThree figures: p50 / p95 / most. × is the p95 over that beside the attack on a sink;")
    print("answers are the victim's per second, over the same. Aims: at most 1.25 ×; without a key")
    print("at most 20 MiB more, and /livez within 100 ms; the share that a customer is due.")


def compare(
    scenario: Scenario, sides: Sequence[Side], sink_port: int, rounds: int
) -> dict[str, Cell]:
    """Measure a scenario on every side, whose order turns from round to round."""
    cells = {side.name: Cell() for side in sides}
    for round_ in range(rounds):
        for side in sides if round_ % 2 == 0 else sides[::-1]:
            print(f"{scenario.title} {side.name} {round_ + 1}", file=sys.stderr)
            measure(scenario, side, sink_port, cells[side.name])
    return cells


if __name__ == "__main__":
    main()
