"""The load generator as a package of its own within the wheel."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Libraries whose distribution has another name than the package.
DISTRIBUTIONS = {"markupsafe": "jinja2"}


def test_the_wheel_holds_every_package_under_src():
    """Each package under src is listed, the load generator too."""
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert "src/stillhouse_loadgen" in packages
    assert sorted(packages) == sorted(
        str(path.parent.relative_to(ROOT)) for path in (ROOT / "src").glob("*/__init__.py")
    )


def test_its_libraries_are_dependencies_or_in_the_extra():
    """What the load generator imports is installed by `stillhouse[bench]`."""
    project = PROJECT["project"]
    declared = {
        re.split(r"[\[>=<~!]", requirement)[0].replace("-", "_")
        for requirement in [*project["dependencies"], *project["optional-dependencies"]["bench"]]
    }
    imported = {
        DISTRIBUTIONS.get(name, name)
        for path in (ROOT / "src" / "stillhouse_loadgen").rglob("*.py")
        for name in imports_of(path)
    }

    assert set() == imported - declared - set(sys.stdlib_module_names) - {"stillhouse_loadgen"}
    assert {"aiohttp", "matplotlib"} <= imported


def imports_of(path):
    """The top-level packages that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
