from __future__ import annotations

import re

from stillhouse import errors


def test_the_drawn_tree_is_the_real_one():
    """The tree in the module's docstring has every class, under its parent, and no other."""
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for indent, name in re.findall(r"^( +)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        while path and path[-1][0] >= len(indent):
            path.pop()
        drawn[name] = path[-1][1] if path else "Exception"
        path.append((len(indent), name))

    real = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind.__base__ and issubclass(kind, errors.StillhouseError)
    }
    assert real == drawn
