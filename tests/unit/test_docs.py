"""The documents say what the tree is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

import stillhouse
from stillhouse.api.http import errors as http_errors
from stillhouse.api.openai.generation_request import GenerationIn
from tests.api_routes import OPERATIONS

PACKAGE = Path(stillhouse.__file__).parent
SOURCES = PACKAGE.parent
PACKAGES = (PACKAGE, SOURCES / "stillhouse_loadgen")
ROOT = SOURCES.parent
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
API = ROOT / "docs" / "api.md"
#: The section that documents each body; other paths of an endpoint take the same body.
SECTIONS = {
    "ChatCompletionIn": "`POST /v1/openai/chat/completions`",
    "TextCompletionIn": "`POST /v1/openai/completions`",
    "InferenceIn": "`POST /v1/inference/{model_name}`",
    "MessagesIn": "`POST /anthropic/v1/messages`",
    "PromptIn": "`POST /anthropic/v1/messages`",
    "ResponseIn": "`POST /v1/openai/responses`",
    "ApiTokenIn": "The account",
    "ScopedJwtIn": "The account",
    "RequestCostsIn": "The account",
}
BODIES = {op.body.__name__: op.body for *_, op in OPERATIONS if op.body}


def test_architecture_has_a_line_for_every_folder():
    """docs/ARCHITECTURE.md lists each folder with the first sentence of its docstring."""
    rows = re.compile(r"^\| `([\w/]+)/` \| (.+) \|$", re.MULTILINE)
    listed = dict(rows.findall(ARCHITECTURE.read_text()))

    assert {str(path.relative_to(SOURCES)): sentence_of(path) for path in folders()} == listed


def folders() -> list[Path]:
    """Every folder of our packages that holds modules, in the order of their names."""
    found = (p.parent for package in PACKAGES for p in package.rglob("__init__.py"))
    return sorted(p for p in found if p.name != "versions")


def sentence_of(folder: Path) -> str:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def test_links_in_documents_lead_somewhere():
    """Every relative link in the documents at the root and in docs/ names a file that is there."""
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def section_of(heading: str) -> str:
    """What docs/api.md says under a heading of the second level."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.+?)(?=^## |\Z)", API.read_text(), re.MULTILINE | re.DOTALL
    )
    assert section, heading
    return section[1]


def test_every_served_path_is_documented():
    """docs/api.md has the methods of every path, and of no others."""
    rows = re.findall(r"^\| ([A-Z, ]+) \| (`/.+?) \|", section_of("Paths"), re.MULTILINE)
    told = {
        (method.lower(), path)
        for methods, paths in rows
        for method in methods.split(", ")
        for path in re.findall(r"`([^`]+)`", paths)
    }

    assert {(served.method, served.path) for served in OPERATIONS} == told


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_field_is_documented(body: type[BaseModel]):
    """Every field that a body may have is in the section of its endpoint."""
    text = section_of(SECTIONS[body.__name__])
    if issubclass(body, GenerationIn):
        text += section_of("What is refused")
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))

    assert set() == names_in(TypeAdapter(body).json_schema()) - told


def names_in(schema: object) -> set[str]:
    """The names of all properties in a JSON Schema, however deep."""
    if isinstance(schema, list):
        return set().union(*map(names_in, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties", {})
    return set(properties).union(*map(names_in, schema.values()))


def test_every_error_is_documented():
    """docs/api.md has each status with each of its codes, and no others."""
    rows = re.findall(r"^\| (\d{3}) \| (`\w+`|null) \|", section_of("Errors"), re.MULTILINE)
    served = {(kind.status, kind.code) for kind in http_errors._KINDS.values()}
    # Where no route takes a request, nothing is raised.
    served |= {(404, "not_found"), (405, "method_not_allowed")}

    assert {(str(status), f"`{code}`" if code else "null") for status, code in served} == set(rows)
