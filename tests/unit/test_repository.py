"""The files at the root of the repository agree with each other and with the tree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import stillhouse

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_alone_holds_the_version():
    """pyproject.toml reads the version from the package; the changelog's newest release is it."""
    released = re.findall(
        r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", _read("CHANGELOG.md"), re.MULTILINE
    )

    assert "version" in PROJECT["project"]["dynamic"]
    assert stillhouse.__version__ == released[0][0]
    assert sorted(released, key=lambda release: release[1], reverse=True) == released


def test_the_changelog_has_room_for_what_comes_next():
    """The first heading of the changelog is Unreleased."""
    assert re.findall(r"^## (.+)$", _read("CHANGELOG.md"), re.MULTILINE)[0] == "Unreleased"


def _read(name: str) -> str:
    return (ROOT / name).read_text()
