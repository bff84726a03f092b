"""Spoilt tables end in a table or in one line that names the file, never in anything else."""

import csv

import pytest

from dubio.data.tables import read_table
from dubio.errors import DubioError
from table_fuzz import LABELS, spoilt


def strictly(path):
    limit = csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as opened:
        rows = [row for row in csv.reader(opened, strict=True) if row]
    csv.field_size_limit(limit)
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def outcome(path):
    """ "read", or the line of the refusal; anything else is raised."""
    try:
        table = read_table(path, need_labels=True)
        ids = table.label_ids(LABELS)
    except DubioError as error:
        return str(error)
    assert len(ids) == len(table) == len(list(table.texts)) > 0
    assert all(isinstance(text, str) and text.strip() for text in table.texts)
    assert len(table.take(slice(0, 2)).rows_hash) == min(2, len(table))
    if path.suffix == ".csv" and len(table.frame.column_names) > 1:
        assert table.frame.to_pylist() == strictly(path)
    return "read"


def run(seeds, folder):
    found = []
    for seed in seeds:
        path = spoilt(seed, folder)
        found.append(outcome(path))
        assert found[-1] == "read" or path.name in found[-1]
        assert "\n" not in found[-1]
        assert len(found[-1]) < 2000
        assert [other.name for other in folder.iterdir()] == [path.name]
        path.unlink()
    return found


def test_500_spoilt_tables(tmp_path):
    found = run(range(500), tmp_path)
    assert 50 < found.count("read") < 400  # some are still good, and many are not


@pytest.mark.slow
def test_20000_spoilt_tables(tmp_path):
    run(range(500, 20_500), tmp_path)
