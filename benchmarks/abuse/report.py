"""Computes the figures of a scenario, checks its targets, and prints the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.abuse.scenarios import Scenario
from benchmarks.abuse.victim import VictimStats

MOST_RATIO, MOST_MIB, MOST_LIVEZ_S = 1.25, 20.0, 0.1


@dataclass
class Cell:
    """The results of a scenario on one side, over all rounds."""

    alone: VictimStats = field(default_factory=VictimStats)
    control: VictimStats = field(default_factory=VictimStats)
    beside: VictimStats = field(default_factory=VictimStats)
    grown_mib: float = 0.0
    attacks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def first_token_ratio(self) -> float | None:
        """Return the p95 beside the attack, relative to that beside the attack on a sink."""
        return ratio(self.beside.first_token_s, self.control.first_token_s)

    @property
    def gap_ratio(self) -> float | None:
        """Return the same ratio for the gaps between tokens."""
        return ratio(self.beside.gap_s, self.control.gap_s)

    @property
    def kept(self) -> float:
        """Return the victim's answers per second, relative to those beside a sink."""
        control = self.control.num_answers / self.control.seconds
        return self.beside.num_answers / self.beside.seconds / control if control else 0.0

    @property
    def share(self) -> float:
        """Return the victim's share of all generated tokens."""
        others: int = sum(attack["tokens"] for attack in self.attacks)
        return self.beside.num_tokens / max(self.beside.num_tokens + others, 1)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the percentile *share*, from 0 to 1; None without values."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else None


def ratio(beside: Sequence[float], control: Sequence[float]) -> float | None:
    """Return the ratio of two p95s; None where there are no values."""
    above, below = percentile(beside, 0.95), percentile(control, 0.95)
    return above / below if above is not None and below else None


def ms(values: Sequence[float]) -> str:
    """Return p50, p95 and maximum as text, in milliseconds."""
    if not values:
        return "–"
    return " / ".join(f"{1000 * (percentile(values, share) or 0):.0f}" for share in (0.5, 0.95, 1))


def times(value: float | None) -> str:
    """Return a ratio as text."""
    return "–" if value is None else f"{value:.2f}"


def misses(scenario: Scenario, cell: Cell) -> list[str]:
    """Return the names of the targets that were missed."""
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
    """Return a row of the table."""
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
    """Print a Markdown table with aligned columns."""
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
