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
    """Every figure of these tables comes from results/ (and takes a minute to compute)."""
    whole = BUILD["pages"]()
    for name in ("findings.md", "which-method.md"):
        assert (DOCS / name).read_text(encoding="utf-8") == whole[name], "stale: run `make docs`"
    assert (DOCS.parent / "README.md").read_text(encoding="utf-8") == BUILD["readme"](), "stale: run `make docs`"
    assert "gain over softmax response, percentage points" in BUILD["readme"]()


def test_no_page_is_left_over():
    assert {f"methods/{path.name}" for path in (DOCS / "methods").iterdir()} == PAGES.keys() - {
        "gotchas.md",
        "llms.txt",
        "methods.md",
        "posteriors.md",
        "tutorial.ipynb",
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
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == {*PAGES, "answered.svg", "stages.svg"}
    assert (tmp_path / "methods.md").read_text(encoding="utf-8") == PAGES["methods.md"]


@pytest.mark.parametrize("name", ["answered.svg", "stages.svg"])
def test_pictures_are_of_the_numbers_that_are_committed(tmp_path, name):
    made = runpy.run_path(str(DOCS / "pictures.py"))
    digest = made["drawn_from"](name)
    assert digest in (DOCS / name).read_text(encoding="utf-8"), "stale: run `make docs`"
    made[name.partition(".")[0]](tmp_path / name)
    assert digest in (tmp_path / name).read_text(encoding="utf-8")


def test_the_front_page_says_what_its_picture_shows():
    made = runpy.run_path(str(DOCS / "pictures.py"))
    one, five = made["shares_wrong"]().values()
    text = " ".join((DOCS.parent / "README.md").read_text(encoding="utf-8").split())
    assert f"answers everything, {100 * one[-1]:.0f} of 100 answers are wrong" in text
    assert f"answers the surest {100 * made['answered_at'](one, 0.05):.0f} % and" in text
    assert "of 100 are. Five adapters together answer more at the same error rate" in text
    assert all(made["answered_at"](five, rate) > made["answered_at"](one, rate) for rate in made["RATES"])
