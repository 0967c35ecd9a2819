"""
Hooks of MkDocs: bring the repository's other documents into the site, and keep their links true.

The documents are written to be read in the repository, so they link to each other and to source
files by relative paths. A document outside ``docs/`` becomes a page, and so does every file that a
page links to; the links are rewritten. ``mkdocs.yml`` names this module.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
#: Documents outside docs/, and their pages.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
DECISIONS = "docs/decisions"

_LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"^(?P<fence>```+).*?^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
_LIST_AFTER_TEXT = re.compile(
    r"^(?P<text>(?![-*#|\s>]|\d+\. |```).+\n)(?=(?:[-*]|\d+\.) )", re.MULTILINE
)
_TABLE_ROW = re.compile(r"^\|.+$", re.MULTILINE)
_CODE_SPAN = re.compile(r"`[^`\n]+`")
_LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def on_files(files: Any, config: Any) -> Any:
    """Adds the documents outside docs/ and every file that any page links to."""
    documents = [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for path in _reachable(documents):
        if path not in documents or path in PAGES:
            files.append(File.generated(config, page_of(path), content=page_text(path)))
    return files


def on_config(config: Any) -> Any:
    """Adds the decisions to the navigation, in their order."""
    decisions = sorted(path.name for path in (ROOT / DECISIONS).glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{name}" for name in decisions]})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites the links of a page that lies in docs/; generated pages have theirs already."""
    return (
        markdown if page.file.generated_by else site_markdown(markdown, f"docs/{page.file.src_uri}")
    )


def page_text(path: str) -> str:
    """Returns the page that shows a file from outside docs/."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return site_markdown(text, path)
    language = _LANGUAGES.get(Path(path).suffix, "text")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=2))
    header = f"---\nsearch:\n  exclude: true\n---\n# {Path(path).name}\n\n`{path}`\n\n"
    return f"{header}{fence}{language}\n{text.rstrip()}\n{fence}\n"


def site_markdown(text: str, path: str) -> str:
    """Returns a document as Python-Markdown reads it, with links between the site's pages."""
    pieces = []
    end = 0
    for code in _CODE.finditer(text):
        pieces += [_outside_code(text[end : code.start()], path), code[0]]
        end = code.end()
    return "".join([*pieces, _outside_code(text[end:], path)])


def _outside_code(text: str, path: str) -> str:
    text = _LIST_AFTER_TEXT.sub(r"\g<text>\n", text)
    # In code, GitHub wants a table's pipes escaped, and Python-Markdown would show the backslash.
    text = _TABLE_ROW.sub(
        lambda row: _CODE_SPAN.sub(lambda code: code[0].replace("\\|", "|"), row[0]), text
    )
    return _LINK.sub(lambda link: _site_link(link, path), text)


def _site_link(link: re.Match[str], path: str) -> str:
    target = normpath(join(dirname(path), link["path"]))
    return f"]({relpath(page_of(target), dirname(page_of(path)) or '.')}{link['anchor'] or ''})"


def page_of(path: str) -> str:
    """Returns the site's page for a file or folder of the repository."""
    if path == DECISIONS:
        return "decisions/" + min(path.name for path in (ROOT / DECISIONS).glob("*.md"))
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    # MkDocs leaves out what begins with a dot.
    page = "source/" + re.sub(r"(^|/)\.", r"\1", path)
    return page if path.endswith(".md") else f"{page}.md"


def _reachable(documents: list[str]) -> list[str]:
    """Returns the documents and every file that they link to, directly or not."""
    found = dict.fromkeys(documents)
    waiting = list(documents)
    while waiting:
        path = waiting.pop()
        if not path.endswith(".md"):
            continue
        for link in _LINK.finditer(_CODE.sub("", (ROOT / path).read_text())):
            target = normpath(join(dirname(path), link["path"]))
            if (ROOT / target).is_dir():
                target = f"{target}/README.md"
            if target not in found and (ROOT / target).is_file() and not _is_asset(target):
                found[target] = None
                waiting.append(target)
    return list(found)


def _is_asset(path: str) -> bool:
    """Tells whether MkDocs copies the file itself: an image in docs/, for example."""
    return path.startswith("docs/") and not path.endswith(".md")
