"""What the site adds to the Markdown of docs/ while mkdocs builds it (`make docs`).

* Each method's page follows the table of all methods in the navigation.
* README, CONTRIBUTING and CHANGELOG lie outside of docs/: the first opens the home page, the others become pages.
* Links that lead out of docs/ are turned to these pages; links to source files become the file's name.
* Where api.md has `<!-- names -->`, the docstring of each public name of `import dubio` follows.
* Each page's Markdown is written beside it: llms.txt leads there.
"""

import posixpath
import re
import runpy
from pathlib import Path
from typing import Any

import dubio

ROOT = Path(__file__).resolve().parent.parent
HOME, API, OUTSIDE = "README.md", "api.md", ("CONTRIBUTING.md", "CHANGELOG.md")
NAMES = "<!-- names -->"
ABOUT = {"Tables": "From a registered name to its class, title, options, needs and cost: [all methods](methods.md)."}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]*)(#[^()\s]*)?\)")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)

_written: dict[str, str] = {}


def on_config(config: Any) -> Any:
    """Lists a page a method behind the table of all methods, so that a new method needs no entry in mkdocs.yml."""
    methods = runpy.run_path(str(ROOT / "docs" / "llms.py"))["methods"]

    def longer(entries: list[Any]) -> list[Any]:
        found: list[Any] = []
        for entry in entries:
            ((name, inside),) = entry.items()
            found += [{name: longer(inside)}] if isinstance(inside, list) else [entry, *methods(inside)]
        return found

    config.nav = longer(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside of docs/."""
    from mkdocs.structure.files import File

    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text with its links turned, the home page's and the API page's with what belongs there."""
    name = page.file.src_uri
    text = turned(markdown, name if name in OUTSIDE else f"docs/{name}")
    if name == HOME:
        front = (ROOT / HOME).read_text(encoding="utf-8")
        text = f"{turned(front, HOME)}\n{text.replace('# ', '## ', 1)}"
    _written[name] = text
    return text.replace(NAMES, reference()) if name == API else text


def on_post_build(config: Any) -> None:
    """Writes the Markdown of each page into the site."""
    for name, text in _written.items():
        (Path(config.site_dir) / name).write_text(text, encoding="utf-8")


def turned(text: str, source: str) -> str:
    """Links of a Markdown text as the site needs them; code blocks stay. source: the file's path from the root."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or ":" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = path.removeprefix("docs/")
        if inside == path and path not in (HOME, *OUTSIDE):
            return f"`{path}`"
        home = posixpath.dirname("" if source in (HOME, *OUTSIDE) else source.removeprefix("docs/"))
        return f"{picture}[{words}]({posixpath.relpath(inside, home or '.')}{anchor})"

    parts = CODE.split(text)
    return "".join(part if at % 2 else LINK.sub(link, part) for at, part in enumerate(parts))


def reference() -> str:
    """Mkdocstrings' directives for every public name, by kind."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Tables": []}
    for name in sorted(dubio.__all__, key=str.lower):
        kinds["Tables" if name.isupper() else "Classes" if name[0].isupper() else "Functions"].append(name)
    parts = [part for kind, names in kinds.items() if names
             for part in (f"## {kind}", ABOUT.get(kind, ""), *(f"::: dubio.{name}" for name in names))]  # fmt: skip
    return "\n\n".join(parts)
