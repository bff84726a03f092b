"""Entries of `same_numbers.py`: how numbers, arrays, tables and pages become entries, and how two files are compared.

An entry stands under a key of words joined by slashes: a number, a text, or what identifies an array.
"""

import hashlib
import json
import re

import numpy as np

WORDS = "words"  # last segment of the entries that may differ
# Last segment of estimates whose last bit differs from run to run of one version: LAPACK's pocon rounds by where its
# workspace lies in memory. Nothing is computed from them; they are compared to nine digits.
ESTIMATED = ("condition",)
LEFT_OUT = re.compile(
    r"sha256|seconds|version|digest|hash|cost|^ms_|millisecond|bytes|transformers|machine|^why|^key$|^steps$"
)
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def flat(key, value):
    """Entries by key of a nested value: mappings become segments of the key, arrays and tensors are summarised."""
    if hasattr(value, "items"):
        return {k: v for name, part in value.items() for k, v in flat(f"{key}/{name}", part).items()}
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    if hasattr(value, "tobytes") and getattr(value, "ndim", 0):
        return {key: tensor(value)}
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not abs(value) < float("inf"):
        value = str(value)  # JSON has no such number
    return {key: value}


def tensor(array):
    """What identifies an array to the bit, and what sizes a difference. Texts are joined before they are hashed."""
    array = np.ascontiguousarray(array)
    facts = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.dtype.kind not in "biuf":
        texts = [str(text) for text in array.ravel().tolist()]
        return {**facts, "dtype": "text", "sha256": hashlib.sha256("\x1f".join(texts).encode()).hexdigest(),
                "first": texts[:4]}  # fmt: skip
    wide = array.astype(np.float64)
    size = {"sum": wide.sum(), "min": wide.min(), "max": wide.max()} if array.size else {}
    return {
        **facts,
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        **{name: number if np.isfinite(number) else str(number) for name, number in size.items()},
        "first": [number if np.isfinite(number) else str(number) for number in wide.ravel()[:8].tolist()],
    }


def numbers(facts):
    """The numbers in facts as JSON holds them, nested as they are; lists of numbers whole; times, hashes and sentences
    are left out.
    """
    out = {}
    for name, value in facts.items() if isinstance(facts, dict) else enumerate(facts):
        if LEFT_OUT.search(str(name)):
            continue
        if isinstance(value, int | float) or _is_row(value):
            out[name] = value
        elif isinstance(value, dict | list):
            out |= {f"{name}/{inner}": found for inner, found in numbers(value).items()}
    return out


def _is_row(value):
    return isinstance(value, list) and bool(value) and all(isinstance(entry, int | float) for entry in value)


def frame(table):
    """Column -> array, of an Arrow table; columns of times are left out."""
    return {
        name: table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
        for name in table.column_names
        if not LEFT_OUT.search(name)
    }


def figures(metrics):
    """Metrics as `metrics.json` lists them -> method / metric / split -> value and interval."""
    return {
        f"{row['method']}/{row['metric']}/{row['split']}": {k: row[k] for k in ("value", "low", "high") if k in row}
        for row in metrics
    }


def page(template, text):
    """Numbers of what stands in a page where its template has a `{{name}}`: of each row of a table, and between tables;
    and, apart, a digest of the words.
    """
    literal, *rest = re.split(r"\{\{([^{}]+)\}\}", template)
    names, parts = rest[::2], [re.escape(literal), *(f"(.*?){re.escape(part)}" for part in rest[1::2])]
    found = re.fullmatch("".join(parts), text, flags=re.DOTALL)
    if found is None:
        raise SystemExit("a generated page does not follow its template")
    return {name: computed(part) for name, part in zip(names, found.groups(), strict=True)}


def computed(text):
    """Numbers of a computed piece of Markdown, row by row, and a digest of its words."""
    lines, out = text.splitlines(), {}
    rows = [NUMBER.findall(line) for line in lines if line.startswith("|")]
    for number, found in enumerate((row for row in rows if row), 1):
        out[f"row {number:03d}"] = " ".join(found)
    said = [number for line in lines if not line.startswith("|") for number in NUMBER.findall(line)]
    return {**out, "between tables": " ".join(said), WORDS: hashlib.sha256(text.encode()).hexdigest()}


def compare(before, after, renamed=None):
    """(lines to print, whether every number of `before` stands in `after` to the bit).

    renamed: segments of keys, as they were -> as they are. What is new is told, and is no fault.
    """
    moved = {key: key if not renamed else _rename(key, renamed) for key in before}
    known = {*moved.values()}
    lost = [f"missing    {key}" for key in moved.values() if key not in after]
    new = [f"new        {key}" for key in after if key not in known]
    differing, words = [], []
    for old, key in moved.items():
        if key in after and not _equal(key, before[old], after[key]):
            line = f"{key}: {difference(before[old], after[key])}"
            (words if key.endswith(f"/{WORDS}") else differing).append(line)
    count = sum(not key.endswith(f"/{WORDS}") for key in known)
    lines = [*_short(new), *(f"reworded   {line}" for line in words), *lost, *(f"DIFFERS    {d}" for d in differing)]
    lines.append(
        f"{count:,} entries: {count - len(lost) - len(differing):,} equal to the bit, {len(differing):,} differ, "
        f"{len(lost):,} missing; {len(new):,} new; words of {len(words)} pages changed"
    )
    return lines, not lost and not differing and count > 0


def difference(before, after):
    """By how much two entries differ, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        named = [n for n in ("shape", "dtype", "sum", "min", "max", "first") if before.get(n) != after.get(n)]
        parts = [f"{name} {difference(before.get(name), after.get(name))}" for name in named]
        return "; ".join(parts) or "other bytes of the same sum, least, greatest and first values"
    pair = [value if isinstance(value, list) else [value] for value in (before, after)]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for values in pair for v in values)
    if numeric and len(pair[0]) == len(pair[1]):
        gap = max(abs(b - a) for a, b in zip(*pair, strict=True))
        return f"{_said(before)} -> {_said(after)} (by {gap:.3g})"
    return f"{_said(before)} -> {_said(after)}"


def _rename(key, renamed):
    return "/".join(renamed.get(segment, segment) for segment in key.split("/"))


def _equal(key, before, after):
    if key.rpartition("/")[2] in ESTIMATED:
        before, after = (np.vectorize("{:.8e}".format)(value).tolist() for value in (before, after))
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)  # tells -0.0 from 0.0, 1 from 1.0


def _said(value):
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _short(lines, most=20):
    return lines if len(lines) <= most else [*lines[:most], f"new        ... and {len(lines) - most:,} more"]
