"""
Measures a victim's latencies beside an abusive client, on this checkout and on an older one.

    python -m benchmarks.abuse --before PATH                 # a checkout of the commit to compare
    python -m benchmarks.abuse --before PATH --only many_keys --rounds 3
    python -m benchmarks.abuse --json abuse.json             # this checkout alone

For each attack and side, a new server is started (with the fake engine, or the demo model where
the engine's own work is attacked), and a victim streams answers in a closed loop three times:
alone, beside the attack on a sink, which reads everything and does nothing, and beside the attack
on the server. The attacker is another process, with another address and a lower priority for the
processor; as the two share the processor, the victim beside the attack on the server is compared
with the victim beside the attack on the sink. An answer that takes over ten seconds counts as ten.

Every attack is judged by the victim's first tokens, gaps and answers; attacks without a key also by
the growth of the gateway's memory and by the latency of /livez.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks.abuse.attack import AttackSpec
from benchmarks.abuse.report import Cell, print_table, row
from benchmarks.abuse.scenarios import SCENARIOS, Scenario
from benchmarks.abuse.sides import AttackerProcess, Server, Side, run_sink
from benchmarks.abuse.victim import Victim, VictimStats
from stillhouse.catalogue.demo_models import DEMO_MODEL

ALONE_S, CONTROL_S = 2.0, 3.0


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

        def attack(port: int, seconds: float, stats: VictimStats) -> dict[str, Any]:
            spec = AttackSpec(
                scenario.attack, port, seconds + 0.5, DEMO_MODEL, server.attacker_keys, account_id
            )
            attacker = AttackerProcess(spec)
            server.forget_peak()
            attacker.begin()
            stats.add(uvloop.run(_after_a_moment(victim, seconds)))
            return attacker.end()

        uvloop.run(victim.ask_for(0.5))  # the first requests are slower
        cell.alone.add(uvloop.run(victim.ask_for(ALONE_S)))
        attack(sink_port, CONTROL_S, cell.control)
        before_mib = server.rss_mib()
        cell.attacks.append(attack(server.port, scenario.seconds, cell.beside))
        cell.grown_mib = max(cell.grown_mib, server.peak_rss_mib() - before_mib)


async def _after_a_moment(victim: Victim, seconds: float) -> VictimStats:
    await asyncio.sleep(0.3)
    return await victim.ask_for(seconds)


def account_id_of(server: Server) -> int:
    """Return the id of the attacker's account, which its tokens must name."""
    headers = {"Authorization": f"Bearer {server.attacker_keys[0]}"}
    response = httpx.get(f"http://127.0.0.1:{server.port}/v1/me", headers=headers)
    return int(response.json()["uid"].removeprefix("sh:"))


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
        roots = {"before": options.before, "after": Path(__file__).parents[2]}
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
    """Measure a scenario on every side, and reverse their order after each round."""
    cells = {side.name: Cell() for side in sides}
    for round_ in range(rounds):
        for side in sides if round_ % 2 == 0 else sides[::-1]:
            print(f"{scenario.title} {side.name} {round_ + 1}", file=sys.stderr)
            measure(scenario, side, sink_port, cells[side.name])
    return cells


if __name__ == "__main__":
    main()
