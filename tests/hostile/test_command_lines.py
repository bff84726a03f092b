"""Command lines as a careless hand or a broken script makes them: done, or one line and nothing left behind."""

import os

import numpy as np
import pytest

from tiny_classifier import dubio, read_rows, snapshot, write_table

ODD = [
    "", " ", "-", "--", "-1", "0", "nan", "inf", "-inf", "1e999", "1.5", "true", "None", "..", "/", "/dev/zero",
    "/dev/null",
    "\x1b[31m", "a\nb", "🎉", "x" * 5000, "%s%n", "[bold]", "$(touch hurt)", "; touch hurt", "hub:", "hub:x", "hub:x:y",
    "cuda:9", "meta", "pipe.csv", "folder", "empty.csv", "é\u202e", "--help=1", "md,md", ",", "nowhere/x.csv",
    "9" * 400, "0x10", "1_000", "~", "~nobody/x", "file:///etc/hostname", "half \ud800", "label", "id",
]  # fmt: skip
COMMANDS = {
    "score": ["score", "ADAPTER", "TABLE", "--output", "out.csv", "--risk", "0.1", "--delta", "0.1", "--methods", "md"],
    "evaluate": ["evaluate", "ADAPTER", "--test", "TABLE", "--report", "report", "--risk", "0.1", "--ood", "WORLD"],
    "fit": ["fit", "ADAPTER", "--calibration", "TABLE", "--methods", "md", "--device", "cpu", "--max-length", "16"],
    "posterior": ["posterior", "ADAPTER", "heads", "--rows", "TABLE", "--samples", "2", "--precision", "float32"],
    "train": ["train", "--train", "TABLE", "--model", "BASE", "--out", "new", "--set", "epochs=1", "--label", "label"],
    "bench": ["bench", "run", "grid.yaml", "--out", "grids"],
    "methods": ["methods"],
}  # fmt: skip


def mutated(g, command):
    """The arguments with one to three things wrong."""
    line = list(COMMANDS[command])
    for _ in range(g.integers(1, 4)):
        at = int(g.integers(0, len(line) + 1))
        match int(g.integers(0, 8)):
            case 0 if len(line) > 1:
                del line[min(at, len(line) - 1)]
            case 1:
                line.insert(at, str(g.choice(ODD)))
            case 2 if at < len(line):
                line[at] = str(g.choice(ODD))
            case 3 if at < len(line):
                line.insert(at, line[at])
            case 4 if at < len(line) - 1:
                line[at], line[at + 1] = line[at + 1], line[at]
            case 5 if at < len(line) and line[at]:
                cut = int(g.integers(0, len(line[at])))
                line[at] = line[at][:cut] + chr(int(g.integers(33, 300))) + line[at][cut + 1 :]
            case 6:
                line.insert(at, f"--{g.choice(['nope', 'risk', 'text', 'pair', 'base', 'cache', 'artifact'])}")
            case _:
                values = [i for i in range(1, len(line)) if line[i - 1].startswith("--")]
                if values:
                    line[int(g.choice(values))] = str(g.choice(ODD))
    return line


@pytest.fixture
def desk(cached, tmp_path, monkeypatch):
    """A folder to work in; the adapter and its tables lie elsewhere, and must stay as they are."""
    work = tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    os.mkfifo(work / "pipe.csv")
    (work / "empty.csv").write_text("")
    small = read_rows(cached.test)[:12]
    table = write_table(work / "table.csv", [row["text"] for row in small], [row["label"] for row in small])
    world = write_table(work / "world.csv", [f"{row['text']} elsewhere" for row in small], ["x"] * len(small))
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(work))
    places = {"ADAPTER": str(cached.adapter), "TABLE": str(table), "WORLD": str(world), "BASE": str(cached.base)}
    return work, cached, places


def check(desk, line):
    work, tiny, places = desk
    arguments = [places.get(part, part).replace("\0", "") for part in line]
    before = snapshot_of(work), snapshot(tiny.adapter, tiny.base)
    done = dubio(*arguments)
    assert done.code in (0, 2), (line, done)
    assert not (work / "hurt").exists()
    if done.code == 2 and "Usage:" not in done.err:
        assert done.err.count("\n") == 1, (line, done)
        assert done.err.startswith("dubio: "), (line, done)
        assert done.err[:-1].isprintable(), (line, done)
        assert (snapshot_of(work), snapshot(tiny.adapter, tiny.base)) == before, (line, done)


def snapshot_of(work):
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_size) for path in work.rglob("*"))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))])
def test_mutated_command_lines(desk, seed):
    """20 a seed, 500 in all."""
    g = np.random.default_rng(1000 + seed)
    for _ in range(20):
        check(desk, mutated(g, str(g.choice([*COMMANDS]))))


def test_formulas_are_escaped_where_it_is_asked(cached, tmp_path):
    table = write_table(
        tmp_path / "t.csv", ["=cmd() bread soup", "@team goal", "rain storm"], ["food", "sport", "weather"]
    )
    out = tmp_path / "out.csv"
    for options, first in ((), "=cmd() bread soup"), (("--escape-formulas",), "'=cmd() bread soup"):
        done = dubio("score", cached.adapter, table, "--output", out, *options)
        assert done.code == 0, done
        assert read_rows(out)[0]["text"] == first
    for options in (("--output", "o.jsonl"), ("--output", "o.parquet"), ("--output", "o.csv", "--executor", "ray")):
        done = dubio("score", cached.adapter, table, *options, "--escape-formulas")
        assert (done.code, done.err.count("\n"), "--escape-formulas is for" in done.err) == (2, 1, True)
