"""Rewrites the last chapter of docs/ARCHITECTURE.md: a line per folder, from the docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.test_docs import ARCHITECTURE, SOURCES, folders, sentence_of  # noqa: E402  (found on the path set above)

HEADING = "## A line per folder\n"
#: The folders of the package, from the top of the layers down.
ROOMS = (
    "cli", "app", "api", "serving", "billing", "accounts", "testing", "catalogue", "text",
    "engines", "store", "checkpoints", "types", "config", "telemetry", "fairness",
)  # fmt: skip


def main() -> None:
    """Write the chapter, the folders from the top of the layers down."""
    lines = [HEADING, "| folder | what it does |", "|---|---|"]
    named = {str(path.relative_to(SOURCES)): path for path in folders()}
    for name, path in sorted(named.items(), key=lambda item: (_room(item[0]), item[0])):
        lines.append(f"| `{name}/` | {sentence_of(path)} |")
    text = ARCHITECTURE.read_text().partition(HEADING)[0]
    ARCHITECTURE.write_text(text + "\n".join(lines) + "\n")


def _room(name: str) -> int:
    package, _, rest = name.partition("/")
    room = rest.partition("/")[0]
    if package != "stillhouse":
        return len(ROOMS)
    return ROOMS.index(room) if room in ROOMS else -1


if __name__ == "__main__":
    main()
