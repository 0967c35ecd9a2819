"""Rewrites the last chapter of docs/ARCHITECTURE.md: a line per file, from the docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.test_docs import ARCHITECTURE, PACKAGE, modules, sentence_of  # noqa: E402  (found on the path set above)

HEADING = "## A line per file\n"
ROOMS = (
    "cli", "app", "bench", "api", "serving", "limits.py", "billing", "accounts", "models",
    "engines", "store", "fairness", "background.py", "tariff.py", "chat.py", "config.py",
    "metrics.py", "money.py", "clock.py", "failpoint.py", "errors.py",
)  # fmt: skip


def main() -> None:
    """Write the chapter, the rooms from the top of the layers down."""
    lines = [HEADING, "| file | what it is |", "|---|---|"]
    paths = {str(path.relative_to(PACKAGE)): path for path in modules()}
    for name, path in sorted(paths.items(), key=lambda item: (_room(item[0]), item[0])):
        lines.append(f"| `{name}` | {sentence_of(path)} |")
    text = ARCHITECTURE.read_text().partition(HEADING)[0]
    ARCHITECTURE.write_text(text + "\n".join(lines) + "\n")


def _room(name: str) -> int:
    room = name.partition("/")[0]
    return ROOMS.index(room) if room in ROOMS else -1


if __name__ == "__main__":
    main()
