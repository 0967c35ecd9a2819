"""The shape of the source tree: small folders, short functions, classes with one subject."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import stillhouse

SOURCES = Path(stillhouse.__file__).parents[1]
MOST_MODULES = 14
MOST_METHODS = 15
MOST_LINES = 70
#: Of all functions, as a share.
MOST_LONG_FUNCTIONS = 0.002

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (str(path.relative_to(SOURCES)), ast.parse(path.read_text()))
        for package in ("stillhouse", "stillhouse_loadgen")
        for path in sorted((SOURCES / package).rglob("*.py"))
    )


def test_folders_are_small():
    """No folder has more than fourteen modules, but for migrations."""
    folders = {
        path.parent for path in SOURCES.rglob("__init__.py") if path.parent.name != "versions"
    }
    sizes = {str(f.relative_to(SOURCES)): len(list(f.glob("*.py"))) for f in folders}

    assert {} == {name: size for name, size in sizes.items() if size > MOST_MODULES}


def test_functions_are_short():
    """At most one function in five hundred has more than seventy lines."""
    lines = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, FUNCTIONS)
    }
    long = {name: number for name, number in lines.items() if number > MOST_LINES}

    assert len(long) <= MOST_LONG_FUNCTIONS * len(lines), long


def test_classes_have_few_methods():
    """A class with more than fifteen methods says in its docstring why they stay together."""
    large = {
        f"{name}:{node.lineno} {node.name}": number
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        for number in [sum(isinstance(member, FUNCTIONS) for member in node.body)]
        if number > MOST_METHODS and "methods" not in (ast.get_docstring(node) or "")
    }

    assert {} == large
