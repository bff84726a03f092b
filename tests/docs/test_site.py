"""The documentation site: every page is in its navigation, every link and anchor leads somewhere, and it builds.

Links and anchors are read from the Markdown, which takes no build. The strict build, by mkdocs, is a slow test.
"""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import dubio

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
CODE = re.compile(r"^```.*?^```$|^(?:    .*\n)+|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]*)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors_of(page):
    """Anchors of a page's headings that GitHub and mkdocs name alike."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    kept = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in HEADING.findall(text))
    return {slug.replace(" ", "-") for slug in kept if "  " not in slug and slug.isascii()}


def dead_links(page):
    found = []
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        home = (page.parent / path).resolve() if path else page
        if target.startswith("https://"):
            continue
        if not home.is_file() or (anchor and anchor not in anchors_of(home)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_anchor_leads_somewhere(page):
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path):
    (tmp_path / "page.md").write_text("# A title, here\n\n## And so on\n```\n# no heading\n```\n")
    links = ("page.md", "page.md#and-so-on", "#a-title-here", "https://x.org", "gone.md", "page.md#no-heading", ".")
    (tmp_path / "page.md").write_text(
        (tmp_path / "page.md").read_text() + " ".join(f"[x]({link})" for link in links) + "\n`[x](in_code.md)`\n"
    )
    assert dead_links(tmp_path / "page.md") == ["gone.md", "page.md#no-heading", "."]


GENERATED = {"methods.md", "posteriors.md", "findings.md", "which-method.md", "gotchas.md"}
WRITTEN = [page for page in PAGES if page.name not in GENERATED and page.parent.name != "methods"]
WRITTEN += [DOCS / "findings.md.in", DOCS / "which-method.md.in"]


@pytest.mark.parametrize("page", [p for p in WRITTEN if p.name != "CHANGELOG.md"], ids=name_of)
def test_prose_keeps_to_120_columns(page):
    text = re.sub(r"^```text.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", [DOCS / "findings.md", DOCS / "which-method.md", *WRITTEN], ids=name_of)
def test_error_roc_auc_is_explained_where_it_first_stands(page):
    """In the paragraph itself, or, where a listing prints it, right below."""
    text = page.read_text(encoding="utf-8")
    at = text.casefold().find("error roc-auc")
    if at >= 0 and page.name != "CHANGELOG.md":
        around = " ".join(text[max(0, at - 300) : at + 1500 * ("```" in text[:at]) + 300].split())
        assert re.search(r"the chance that a wrong (answer|row) (gets|scores)", around)


def test_every_page_is_in_the_navigation_once():
    navigation = runpy.run_path(str(DOCS / "llms.py"))["navigation"]
    listed = [path for _, pages in navigation() for path in pages]
    assert sorted(listed) == sorted([*(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")),
                                     "CONTRIBUTING.md", "CHANGELOG.md"])  # fmt: skip


def test_the_map_names_every_written_page():
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    written = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")} - {"README.md"}
    assert {path for path in written if not path.startswith("methods/") and f"]({path})" not in text} == set()


def test_the_page_of_python_names_has_all_of_them():
    made = runpy.run_path(str(DOCS / "hooks.py"))
    assert made["NAMES"] in (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: dubio\.(\w+)$", made["reference"](), re.MULTILINE)) == sorted(dubio.__all__)


def test_links_out_of_the_pages_are_turned():
    turned = runpy.run_path(str(DOCS / "hooks.py"))["turned"]
    assert turned("[a](../CONTRIBUTING.md#house-rules)", "docs/findings.md") == "[a](CONTRIBUTING.md#house-rules)"
    assert turned("[a](../../CHANGELOG.md) [b](data.md)", "docs/howto/x.md") == "[a](../CHANGELOG.md) [b](data.md)"
    assert turned("![a](docs/answered.svg) [b](docs/howto/x.md)", "README.md") == "![a](answered.svg) [b](howto/x.md)"
    assert turned("[`base`](../../src/dubio/errors.py)", "docs/methods/x.md") == "`src/dubio/errors.py`"
    code = "```\n[a](../CONTRIBUTING.md)\n```\n[a](https://x.org) [b](#here)"
    assert turned(code, "docs/findings.md") == code


def test_the_citation_is_of_this_version():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (found["version"], found["license"]) == (project["version"], project["license"])
    assert found.keys() >= {"cff-version", "message", "title", "authors"}  # what the format asks for


def test_two_files_of_requirements_name_one_version():
    pins = [line.split("==") for path in (ROOT / "requirements").glob("*.txt")
            for line in path.read_text(encoding="utf-8").splitlines() if "==" in line]  # fmt: skip
    assert len({name for name, _ in pins}) == len({(name, version) for name, version in pins})


class Links(HTMLParser):
    """What a page loads or leads to, and its ids."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self.targets += [(tag, found[key]) for key in ("href", "src") if found.get(key)]


@pytest.mark.slow
def test_the_site_builds_strictly_and_no_link_is_dead(tmp_path):
    pytest.importorskip("mkdocs", reason="make docs installs mkdocs")
    out = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    source = {"PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env={**os.environ, **source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}
    assert len(pages) == len(PAGES)  # the two READMEs are one page, and there is the 404
    for path, page in pages.items():
        for tag, target in page.targets:
            if "://" in target:
                assert tag == "a", f"{path} loads {target}"
            if "://" in target or path.name == "404.html":  # its links begin at the root of a server
                continue
            inside, _, anchor = target.partition("#")
            home = (path.parent / unquote(inside)).resolve() if inside not in ("", ".") else path
            assert home.is_file(), f"{path}: {target}"
            assert not anchor or home not in pages or unquote(anchor) in pages[home].ids, f"{path}: {target}"
    reference = pages[out / "api.html"].ids
    assert {f"dubio.{name}" for name in dubio.__all__} <= reference
    index = (out / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")
    assert "error ROC-AUC" in index
    for target in LINK.findall((out / "llms.txt").read_text(encoding="utf-8")):
        assert (out / target).is_file(), target
        assert not any(link.startswith("../src") for link in LINK.findall((out / target).read_text(encoding="utf-8")))
