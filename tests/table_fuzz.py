"""Tables as people and programs spoil them: seeded mutations of a good one, in every format."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
from pyarrow import parquet

LABELS = ("food", "sport", "weather")
PIECES = (b'"', b'""', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\", b'\\"',
          b"\xc3", b"{", b"}", b"[", b"]", b":", b"nan", b"null", b"1e999", b"\\ud83d", b"\xe2\x80\xae", b"\x1b[2J",
          b"'", b" ", b"\n\n", b"label", b"text", b"True", b"0", b"9" * 5000, b"a" * 200_000, b"[" * 2000)  # fmt: skip
VALUES = (None, float("nan"), float("inf"), 1, 1.5, -1, True, False, "", "  ", "\ud83d", "\0", [], [1], {}, {"id": 1},
          2**70, 10**400, "food", "FOOD ", "0", "True", [["a"]], {"": None}, "a" * 200_000)  # fmt: skip
KINDS = (
    lambda n: pa.array([[i] for i in range(n)]), lambda n: pa.array([{"x": i} for i in range(n)]),
    lambda n: pa.array(["food"] * n, pa.string_view()), lambda n: pa.array([b"food"] * n, pa.binary_view()),
    lambda n: pa.array(["food"] * n).dictionary_encode(), lambda n: pa.array([b"\xff"] * n), lambda n: pa.nulls(n),
    lambda n: pa.array([Decimal(i % 3) for i in range(n)]), lambda n: pa.array(range(n), pa.timestamp("s")),
    lambda n: pa.array([i % 2 == 0 for i in range(n)]), lambda n: pa.array([np.float16(i % 3) for i in range(n)]),
    lambda n: pa.array([None, *["food"] * (n - 1)]), lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int32())),
    lambda n: pa.array(range(n), pa.duration("s")),
    lambda n: pa.array([["a"]] * n, pa.list_(pa.string_view())), lambda n: pa.array([b"abcd"] * n, pa.binary(4)),
)  # fmt: skip


def good(g, rows=6):
    """(texts, labels) of a table that is read."""
    words = ["rain", "goal", "soup", "late", "wind", "cup", 'a "quoted" word', "two\nlines", "comma, here", "ümlaut"]
    texts = [f"{' '.join(g.choice(words, 4))} {i}" for i in range(rows)]
    return texts, [str(g.choice(LABELS)) for _ in range(rows)]


def spoilt(seed, folder):
    """A path: the good table in one of the formats, changed in one to four places; some are still good."""
    g = np.random.default_rng(seed)
    texts, labels = good(g)
    kind = ("csv", "jsonl", "parquet")[seed % 3]
    path = folder / f"t{seed}.{kind}"
    if kind == "csv":
        quoted = [f'"{t.replace(chr(34), chr(34) * 2)}",{label}' for t, label in zip(texts, labels, strict=True)]
        path.write_bytes(_bytes(g, ("text,label\n" + "\n".join(quoted) + "\n").encode()))
    elif kind == "jsonl" and g.random() < 0.5:
        rows = [{"text": t, "label": label} for t, label in zip(texts, labels, strict=True)]
        for _ in range(g.integers(1, 3)):
            row = rows[int(g.integers(len(rows)))]
            row[str(g.choice(["text", "label", "id", "te\ud83dxt"]))] = VALUES[int(g.integers(len(VALUES)))]
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif kind == "jsonl":
        rows = [json.dumps({"text": t, "label": label}) for t, label in zip(texts, labels, strict=True)]
        path.write_bytes(_bytes(g, "\n".join(rows).encode()))
    else:
        columns = {"text": pa.array(texts), "label": pa.array(labels), "id": pa.array(range(len(texts)))}
        columns[str(g.choice(["text", "label", "id"]))] = KINDS[int(g.integers(len(KINDS)))](len(texts))
        parquet.write_table(pa.table(columns), path)
        if g.random() < 0.4:
            path.write_bytes(_bytes(g, path.read_bytes(), insert=False))
    return path


def _bytes(g, whole, insert=True):
    for _ in range(g.integers(1, 5)):
        at, end = sorted(g.integers(0, len(whole) + 1, 2).tolist())
        way = g.integers(5 if insert else 2)
        if way == 0:
            whole = whole[:at] + bytes([g.integers(256)]) + whole[at + 1 :]
        elif way == 1:
            whole = whole[: max(at, 1)]
        elif way == 2:
            whole = whole[:at] + whole[end:]
        elif way == 3:
            whole = whole[:end] + whole[at:end] + whole[end:]
        else:
            whole = whole[:at] + PIECES[int(g.integers(len(PIECES)))] + whole[at:]
    return whole
