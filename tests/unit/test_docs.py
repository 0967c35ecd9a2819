"""The documents say what the tree is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import stillhouse

PACKAGE = Path(stillhouse.__file__).parent
ROOT = PACKAGE.parents[1]
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"


def test_architecture_has_a_line_for_every_file():
    """docs/ARCHITECTURE.md lists each module with the first sentence of its docstring."""
    rows = re.compile(r"^\| `([\w/]+\.py)` \| (.+) \|$", re.MULTILINE)
    listed = dict(rows.findall(ARCHITECTURE.read_text()))

    assert {str(path.relative_to(PACKAGE)): sentence_of(path) for path in modules()} == listed


def modules() -> list[Path]:
    found = (
        p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" and "versions" not in p.parts
    )
    return sorted(found)


def sentence_of(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def test_links_in_documents_lead_somewhere():
    """Every relative link in the README and in docs/ names a file that is there."""
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
