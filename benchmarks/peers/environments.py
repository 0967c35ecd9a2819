"""Creates a virtual environment for each peer from its pinned requirements."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def python_of(peer: str, directory: Path) -> Path:
    """Return the interpreter of *peer*'s environment, which is created anew if pins changed."""
    requirements = requirements_of(peer)
    place = directory / peer
    stamp = place / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"Installing {peer} into {place} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run(
            [place / "bin" / "pip", "install", "-qq", "--no-deps", "-r", requirements],
            check=True,
        )
        stamp.write_text(requirements.read_text())
    return place / "bin" / "python"


def version_of(peer: str, package: str) -> str:
    """Return the version of *package* that is pinned for *peer*."""
    for line in requirements_of(peer).read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version
    raise LookupError(f"{package} is not pinned for {peer}.")


def requirements_of(peer: str) -> Path:
    """Return the file of pins."""
    return HERE / f"requirements-{peer}.txt"
