"""The generated method pages: committed as generated, one for every registered method, nothing left over."""

import runpy
from pathlib import Path

import pytest

from dubio.posteriors.registry import POSTERIORS
from dubio.scores.registry import METHODS

DOCS = Path(__file__).resolve().parents[2] / "docs"
BUILD = runpy.run_path(str(DOCS / "build.py"))
PAGES = BUILD["pages"](measured=False)


@pytest.mark.parametrize("path", PAGES)
def test_the_committed_page_is_what_is_generated(path):
    assert (DOCS / path).is_file(), "run `make docs` and commit what it writes"
    assert (DOCS / path).read_text(encoding="utf-8") == PAGES[path], "the page is stale: run `make docs`"


def test_the_findings_and_the_readme_show_what_the_results_give():
    """Every figure of both tables comes from results/ (and takes a minute to compute)."""
    whole = BUILD["pages"]()
    assert (DOCS / "findings.md").read_text(encoding="utf-8") == whole["findings.md"], "stale: run `make docs`"
    assert (DOCS.parent / "README.md").read_text(encoding="utf-8") == BUILD["readme"](), "stale: run `make docs`"
    assert "points of error ROC-AUC" in BUILD["readme"]()


def test_no_page_is_left_over():
    assert {f"methods/{path.name}" for path in (DOCS / "methods").iterdir()} == PAGES.keys() - {
        "gotchas.md",
        "methods.md",
        "posteriors.md",
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_has_a_page_with_all_its_options(name):
    method = METHODS[name]
    page = PAGES[f"methods/{BUILD['module_of'](method)}.md"]
    assert f"[`{name}`](methods/{BUILD['module_of'](method)}.md)" in PAGES["methods.md"]
    assert f"| `{name}` | {method.title} |" in page
    for option in type(method.build().config).model_fields:
        assert f"| `{option}` |" in page


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_registered_posterior_is_on_its_page(name):
    entry = POSTERIORS[name]
    assert f"| `{name}` | {entry.title} | `dubio " in PAGES["posteriors.md"]
    assert entry.paper in PAGES["posteriors.md"]


def test_writing_restores_missing_pages_and_removes_stale_ones(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "gone.md").write_text("of a method that is gone")
    own = BUILD["write"].__globals__
    monkeypatch.setitem(own, "DOCS", tmp_path)
    monkeypatch.setitem(own, "README", tmp_path.parent / "README.md")
    monkeypatch.setitem(own, "pages", lambda: PAGES)
    monkeypatch.setitem(own, "readme", lambda: "the front page")
    BUILD["write"]()
    assert (tmp_path.parent / "README.md").read_text(encoding="utf-8") == "the front page"
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == {*PAGES, "stages.svg"}
    assert (tmp_path / "methods.md").read_text(encoding="utf-8") == PAGES["methods.md"]


def test_pictures_are_of_the_numbers_that_are_committed(tmp_path):
    made = runpy.run_path(str(DOCS / "pictures.py"))
    digest = made["drawn_from"]("stages.svg")
    assert digest in (DOCS / "stages.svg").read_text(encoding="utf-8"), "stale: run `make docs`"
    made["stages"](tmp_path / "stages.svg")
    assert digest in (tmp_path / "stages.svg").read_text(encoding="utf-8")
