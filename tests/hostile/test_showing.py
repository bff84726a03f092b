"""Labels, names and paths that would do something where they are shown: they are shown as text."""

import html
import io
import re
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import csv

from dubio.cli.main import main
from dubio.data.writing import without_formulas, write_frame
from dubio.report.card import render_card
from dubio.showing import as_code, for_markdown, plain, tell
from planted_artifact import made

EVIL = (
    "![x](http://a.example/p.png)", "[click](javascript:alert(1))", "<img src=x onerror=alert(1)>", "<!-- hidden",
    "a | b | c", "`code` and ``more``", "**bold** _it_ ~~no~~", "# title", "https://a.example/x www.a.example",
    "$x^2$", "@somebody", "&lt;b&gt;", "line\nbreak\r\nand\u2028more", "\x1b[31mred\x1b[0m\x07\x08\x9b2J",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200f \U000e0041", "half \udcff", "[bold]rich[/bold]", "a\0b", "\\`*",
)  # fmt: skip


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_nothing_unseen_reaches_a_terminal(text, capsys):
    shown = plain(text)
    assert shown.isprintable()
    shown.encode()
    tell(text)
    printed = capsys.readouterr().out
    assert not set(printed) & set("\x1b\x07\x08\x9b\0\r\u202e\u2066\u200f\u2028")
    assert plain(printed, keep="\n") == printed


def test_what_can_be_seen_stays():
    for text in ("naïve Größe", "日本語", "مرحبا", "👩\u200d💻 done", "a\\b 'c' [bold]", ""):
        assert plain(text) == text


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_markdown_shows_the_text_and_does_nothing_else(text):
    """Undoing backslashes and entities, as a renderer does, gives the text back; no markup is left bare."""
    line = for_markdown(text)
    assert "\n" not in line
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)  # without what is escaped
    assert not re.search(r"[*_`\[\]<>|~$@!#\\]|://|www\.", bare)
    assert re.fullmatch(r"([^&]|&(lt|gt|amp);)*", bare)
    shown = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", line))
    assert shown == plain(" ".join(text.split()))


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_a_code_span_ends_where_it_should(text):
    span = as_code(text)
    assert re.fullmatch(r"`[^`|\n\x1b\u202e]+`", span)


@pytest.fixture(scope="module")
def artifact():
    return made()


def test_the_card_shows_labels_and_names_as_text(artifact):
    told = {"adapter": EVIL[0], "base": "\x1b[31m![](http://a.example)", "family": "`x`<script>"}
    card = render_card(replace(artifact, labels=EVIL[:6], model=told, left_out={"md": EVIL[2] + EVIL[1]}))
    outside = re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", card))
    assert not re.search(r"!\[|\]\(|<img|<script|<!--|\x1b|://", outside)
    assert "http://a.example/p.png" in card  # and yet it is there to be read
    assert len(re.findall(r"^\| train \|", card, flags=re.MULTILINE)) == 1


CELLS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\tx",
    "＝1",
    "-5",
    "+3.5e-7",
    ".5",
    "plain",
    "a=b",
    "'=x",
    "",
    None,
]
ESCAPED = ["'" + c if i < 6 else c for i, c in enumerate(CELLS)]


def test_formulas_are_escaped_and_numbers_are_not(tmp_path):
    frame = pa.table({"=evil": pa.array(CELLS, pa.large_string()), "n": list(range(len(CELLS))), "s": pa.array(CELLS)})
    found = without_formulas(frame)
    assert found.column_names == ["'=evil", "n", "s"]
    assert found.column("'=evil").to_pylist() == found.column("s").to_pylist() == ESCAPED
    assert found.column("n").to_pylist() == list(range(len(CELLS)))
    write_frame(found.drop_columns(["s"]), tmp_path / "a.csv")
    back = csv.read_csv(tmp_path / "a.csv", parse_options=csv.ParseOptions(newlines_in_values=True))
    assert back.column("'=evil").to_pylist()[:10] == ESCAPED[:10]


@pytest.mark.parametrize("argument", ["\udcff", "folder/\udce9t\udce9"])
def test_a_path_that_is_not_utf8_is_one_line(argument, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dubio", "evaluate", argument, "--test", "x.csv"])
    with pytest.raises(SystemExit) as caught:
        main()
    err = capsys.readouterr().err
    assert (caught.value.code, err.count("\n"), "is not UTF-8" in err) == (2, 1, True)


def test_a_terminal_of_few_characters_gets_all_lines(monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "argv", ["dubio", "fit", "日本", "--calibration", "x.csv"])
    with pytest.raises(SystemExit):
        main()
    stream.flush()
    assert b"\\u65e5" in raw.getvalue()
