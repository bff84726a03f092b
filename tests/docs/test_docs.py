"""The written pages: their Python runs, their commands are ones that the CLI takes, their links lead somewhere.

The Python blocks of a page run in order in one namespace. A text block right below one is what it prints; it is
compared unless the page uses the demo's adapter, whose numbers differ from machine to machine. Such a page is skipped
where `make demo` has not run, or has run with a version that names its shards otherwise: it would take minutes.
"""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import dubio
from dubio.cli.main import app
from dubio.models.extraction import Extraction, shard_key
from dubio.models.tokens.batching import Block

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "runs" / "demo"
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name_of(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def why_no_demo():
    """The reason to skip pages that use the demo's adapter, or None."""
    if not (DEMO / "report" / "index.html").exists():
        return "uses the demo's adapter: run `make demo` first"
    texts = dubio.read_table(DEMO / "data" / "test.csv").texts[: Extraction().shard_rows]
    try:
        model = dubio.load(DEMO / "adapter")
        dubio.load_artifact(DEMO / "adapter", model.head)
    except dubio.DubioError as error:
        return f"the demo was made by another version: run `make demo` again ({error})"
    shard = DEMO / "cache" / f"{shard_key(model, Block(0, texts, None), Extraction())}.safetensors"
    return None if shard.exists() else "the demo's shards were made by another version: run `make demo` again"


@pytest.mark.parametrize("page", [p for p in PAGES if PYTHON.search(text_of(p))], ids=name_of)
def test_python_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch, capsys, request):
    blocks = list(PYTHON.finditer(text_of(page)))
    needs_demo = any("runs/demo" in block[1] for block in blocks)
    if needs_demo:
        reason = request.getfixturevalue("why_no_demo")
        if reason:
            pytest.skip(reason)
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "demo").symlink_to(DEMO)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        line = text_of(page)[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], name_of(page), "exec"), namespace)
        printed = capsys.readouterr().out
        if block[2] is not None and not needs_demo:
            assert printed == block[2]


@pytest.mark.parametrize("page", [p for p in PAGES if SHELL.search(text_of(p))], ids=name_of)
def test_commands_are_ones_that_the_cli_takes(page):
    commands = get_command(app).commands
    lines = "".join(SHELL.findall(text_of(page))).replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["dubio"]:
            commands[words[1]].make_context(words[1], words[2:])  # raises on unknown options or missing arguments


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_the_first_line_is_a_title(page):
    assert text_of(page).startswith("# ")
    for target in LINK.findall(text_of(page)):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_howto_pages_are_short():
    assert {p.name: n for p in ROOT.glob("docs/howto/*.md") if (n := len(text_of(p).splitlines())) > 60} == {}
