"""Stores results on disk, from the first figure on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Measured = dict[str, float]


@dataclass
class Results:
    """
    The results of a run.

    Args:
        cases: Case -> contender -> figures of each round, in order.
        contenders: Name -> version, command and configuration.
        agreement: Contender -> number of first greedy tokens equal to those of stillhouse's engine.
        waiting_cpu_s: Processor time of the contenders that waited.
        measured_s: Duration of all measurements of engines.

    """

    path: Path
    conditions: dict[str, Any] = field(default_factory=dict)
    contenders: dict[str, dict[str, str]] = field(default_factory=dict)
    cases: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    agreement: dict[str, str] = field(default_factory=dict)
    waiting_cpu_s: float = 0.0
    measured_s: float = 0.0
    num_rounds: int = 0

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read the file that `save` wrote; without a file, return empty results."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def save(self) -> None:
        """Write the file atomically."""
        content = {name: value for name, value in vars(self).items() if name != "path"}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1))
        part.replace(self.path)

    def describe(self, name: str, version: str, command: str, config: str = "") -> None:
        """Record a contender's version, command and settings."""
        self.contenders[name] = {"version": version, "command": command, "config": config}

    def next_round(self) -> int:
        """Return the number of the next round."""
        self.num_rounds += 1
        return self.num_rounds - 1

    def add(self, case: str, contender: str, measured: Measured) -> None:
        """Add the figures of one measurement."""
        self.cases.setdefault(case, {}).setdefault(contender, []).append(measured)

    def figures(self, case: str, contender: str, name: str) -> list[float]:
        """Return the figure *name* of every round in which it was measured."""
        return [measured[name] for measured in self.cases.get(case, {}).get(contender, [])]
