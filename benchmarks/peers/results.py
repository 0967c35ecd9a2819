"""What was measured, kept on disk from the first figure on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Measured = dict[str, float]


@dataclass
class Results:
    """
    What was measured.

    Args:
        cases: Case -> contender -> figures of each round, in order.
        contenders: Name -> version, command and configuration.
        agreement: Contender -> how many first greedy tokens are those of stillhouse's engine.
        waiting_cpu_s: How long the contenders that waited computed all the same.
        measured_s: How long all measurements of engines took.

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
        """Read what `save` wrote; nothing where there is no such file."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def save(self) -> None:
        """Write all of it, whole or not at all."""
        content = {name: value for name, value in vars(self).items() if name != "path"}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1))
        part.replace(self.path)

    def describe(self, name: str, version: str, command: str, config: str = "") -> None:
        """Note which version of a contender was started how, and what its file of settings says."""
        self.contenders[name] = {"version": version, "command": command, "config": config}

    def next_round(self) -> int:
        """Return the number of the round that begins."""
        self.num_rounds += 1
        return self.num_rounds - 1

    def add(self, case: str, contender: str, measured: Measured) -> None:
        """Keep the figures of one measurement."""
        self.cases.setdefault(case, {}).setdefault(contender, []).append(measured)

    def figures(self, case: str, contender: str, name: str) -> list[float]:
        """Return the figure *name* of every round; none where it was not measured."""
        return [measured[name] for measured in self.cases.get(case, {}).get(contender, [])]
