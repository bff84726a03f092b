"""`dubio check`: one line a finding, problems by exit code 2, and nothing that a bad table could break."""

import json

import pandas as pd
import pytest

from dubio.data.preparing.checking import check_tables
from tiny_classifier import dubio, read_rows

WORDS = ("river stone", "late train", "good soup", "old house", "green field", "fast car", "warm rain", "red moon")


def table(path, texts, labels, **more):
    pd.DataFrame({"text": texts, "label": labels, **more}).to_csv(path, index=False)
    return path


def good(path, start=0, rows=40):
    texts = [f"{WORDS[i % 8]} {WORDS[(i * i + i // 8) % 8]} number {chr(97 + i % 26)}{chr(97 + i // 26)} seen" * 2
             for i in range(start, start + rows)]  # fmt: skip
    return table(path, texts, ["x", "y"] * (rows // 2))


def kinds(*tables, **options):
    return {(f.kind, f.problem, f.rows) for f in check_tables([str(t) for t in tables], **options).findings}


def test_good_tables_have_no_problem(cached):
    """The tables of the tiny classifier: texts of a few words, each once."""
    done = dubio("check", cached.train, cached.calibration, cached.test)
    assert done.code == 0, done
    assert (
        f"{cached.train}: {len(read_rows(cached.train)):,} rows; columns read: text 'text', label 'label'" in done.out
    )
    assert "3 labels: " in done.out
    assert "no problems, " in done.out.splitlines()[-1]
    assert "problem:" not in done.out


def test_each_fault_is_found(tmp_path):
    texts = [f"{a} near {b}" for a in WORDS for b in WORDS[:5]]
    twin = "River stone near RIVER stone!"
    rows = [*texts[:30], texts[0], texts[1], twin, " ", "more"]
    train = table(tmp_path / "train.csv", rows, [*["x", "y"] * 15, "y", "y", "x", "x", None])
    test = table(tmp_path / "test.csv", [*texts[28:36], "late train near late train!!"], [*["x", "y"] * 4, "z"])
    found = check_tables([str(train), str(test)])
    by_kind = {f.kind: f for f in found.findings}
    assert by_kind["no text"].said == "1 row with nothing in column 'text', the first on line 35; fill or remove them"
    assert by_kind["no label"].rows == 1
    assert by_kind["repeats"].rows == 2
    conflict = by_kind["conflicting labels"]
    assert conflict.said.startswith("1 text with more than one label, such as line 2 ('x') and line 32 ('y')")
    assert conflict.rows == 2
    assert by_kind["near repeats"].rows >= 1
    assert (by_kind["overlap"].rows, by_kind["overlap"].problem) == (2, True)
    assert by_kind["near overlap"].rows >= 1
    assert (by_kind["unknown labels"].rows, by_kind["unknown labels"].problem) == (1, True)
    assert by_kind["rare labels"].table == str(test)
    look = found.tables[0]
    assert (look.rows, look.labels) == (33, {"y": 17, "x": 16})
    counts = [len(t.split()) for t in [*texts[:30], texts[0], texts[1], twin]]
    assert (look.words[0], look.words[-1]) == (min(counts), max(counts))

    done = dubio("check", train, test)
    assert done.code == 2
    assert done.err == ""
    lines = done.out.splitlines()
    assert len([line for line in lines if ": problem: " in line]) == found.problems
    assert len([line for line in lines if ": problem: " in line or ": note: " in line]) == len(found.findings)
    parsed = json.loads(dubio("check", train, test, "--json").out)
    assert parsed["problems"] == found.problems
    assert parsed["tables"][0]["labels"] == look.labels
    assert [f["said"] for f in parsed["findings"]] == [f.said for f in found.findings]


HOSTILE = {
    "empty": ("", "the file is empty"),
    "no rows": ("text,label\n", "zero rows"),
    "one row": ("text,label\na b c,x\n", "all rows have the label 'x'"),
    "one label": ("text,label\na b c,x\nd e f,x\n", "all rows have the label 'x'"),
    "no text": ("number,label\n1,x\n", "no text column found"),
    "all blank": ("text,label\n ,x\n,y\n", "no row has what is needed"),
    "two texts": ("text,sentence,label\na,b,x\n", "the text could be"),
    "torn": ("text,label\na,x,y\n", "line 2 has 3 fields"),
    "latin": ("text,label\ncafé,x\n".encode("latin-1"), "is not UTF-8"),
    "names alike": ("text,label\na b,Food\nc d,food\ne f,x\ng h,y\n", "labels 'Food', 'food' differ in case"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_findings_and_the_others_are_looked_at(tmp_path, name):
    content, said = HOSTILE[name]
    bad, fine = tmp_path / "bad.csv", good(tmp_path / "fine.csv")
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = dubio("check", bad, fine)
    assert done.code == (0 if name == "names alike" else 2), done
    assert said in done.out
    assert f"{fine}: 40 rows" in done.out
    assert done.err == ""
    assert all(line.startswith((str(bad), str(fine))) for line in done.out.splitlines()[:-1])


def test_labels_with_one_row_each_and_missing_files(tmp_path):
    path = table(tmp_path / "t.csv", [f"{a} {b}" for a in WORDS for b in WORDS], [f"l{i}" for i in range(64)])
    assert ("rare labels", False, 64) in kinds(path)
    assert ("unreadable", True, 0) in kinds(tmp_path / "none.csv", path)
    done = dubio("check", path, path)
    assert (done.code, done.err) == (2, "dubio: a table is named twice; name each once\n")


def test_pairs_beside_single_texts(tmp_path):
    single = good(tmp_path / "single.csv")
    pairs = tmp_path / "pairs.csv"
    frame = pd.read_csv(single).rename(columns={"text": "text_a"})
    frame.assign(text_b="another text").to_csv(pairs, index=False)
    assert any(kind == "pairs" and problem for kind, problem, _ in kinds(single, pairs))


def test_columns_can_be_named_and_labels_may_lack(tmp_path):
    frame = pd.read_csv(good(tmp_path / "t.csv")).rename(columns={"text": "words", "label": "kind"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    done = dubio("check", tmp_path / "t.csv", "--text", "words", "--label", "kind")
    assert (done.code, "columns read: text 'words', label 'kind'" in done.out) == (0, True), done
    done = dubio("check", tmp_path / "t.csv", "--text", "words")
    assert (done.code, "note: no label column was found" in done.out) == (0, True), done


def test_tokens_of_an_adapter(cached, tmp_path):
    from transformers import AutoTokenizer

    done = dubio("check", cached.test, "--model", cached.adapter, "--json")
    assert done.code == 0, done
    tokenizer = AutoTokenizer.from_pretrained(cached.base)
    texts = [row["text"] for row in read_rows(cached.test)]
    expected = [len(tokenizer(text)["input_ids"]) for text in texts]
    tokens = json.loads(done.out)["tables"][0]["tokens"]
    assert (tokens[0], tokens[-1]) == (min(expected), max(expected))
    long = table(tmp_path / "t.csv", [*texts[:20], " ".join(texts[:40])], [*["x", "y"] * 10, "x"])
    said = dubio("check", long, "--model", cached.adapter).out
    assert "note: 1 row longer than the 32 tokens that are read; the end is cut off" in said


def test_in_python_any_rows(cached):
    rows = read_rows(cached.test)
    found = check_tables({"list": rows, "frame": pd.DataFrame(rows)})
    assert [look.rows for look in found.tables] == [len(rows)] * 2
    assert ("overlap", len(rows)) in {(f.kind, f.rows) for f in found.findings}
