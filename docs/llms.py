"""llms.txt: what dubio is, and every page of the site with its title, for programs that read (llmstxt.org).

In: mkdocs.yml, the README's first paragraph, the titles of the pages. Out: Markdown whose links lead to Markdown.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")


def llms(made: Mapping[str, str]) -> str:
    """The file. made: path under docs/ -> text, of pages that are generated; the others are read."""
    about = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")[1]
    lines = ["# dubio", "", *(f"> {line}" for line in about.splitlines())]
    for section, pages in navigation(made):
        lines += ["", f"## {section}", ""]
        for path in pages:
            text = made[path] if path in made else (ROOT / home_of(path)).read_text(encoding="utf-8")
            title = text.splitlines()[0].removeprefix("# ")
            lines.append(f"- [{title}]({path})")
    return "\n".join(lines) + "\n"


def home_of(path: str) -> str:
    """Where a page of the site lies, from the root."""
    return path if path in OUTSIDE else f"docs/{path}"


def navigation(made: Iterable[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Each section of mkdocs.yml with its pages, in order; a page a method behind the table of all methods.

    made: paths of the generated pages; None: those that lie there.
    """
    for entry in yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]:
        for section, inside in entry.items():
            yield section, [path for listed in _paths(inside) for path in (listed, *methods(listed, made))]


def methods(path: str, made: Iterable[str] | None = None) -> list[str]:
    """The pages of the single methods, where `path` is the table of all; else none."""
    docs = ROOT / "docs"
    known = (str(page.relative_to(docs)) for page in docs.glob("methods/*.md")) if made is None else made
    return sorted(name for name in known if name.startswith("methods/")) if path == "methods.md" else []


def _paths(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inside in entry.values() if isinstance(entry, dict) else entry:
            yield from _paths(inside)
