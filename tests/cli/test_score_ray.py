"""`dubio score --executor ray`: the rows that one process gives, from one file or from shards, in order."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tiny_classifier import dubio

pytest.importorskip("ray")

NEW = ("predicted_label", "probability", "error_probability", "decision")


@pytest.fixture(scope="module")
def table(tiny):
    """Two rows are longer than the model reads."""
    found = csv.read_csv(tiny.test)
    texts = found.column("text").to_pylist()
    texts[5], texts[250] = texts[5] * 20, texts[250] * 20
    return found.set_column(found.column_names.index("text"), "text", [texts])


@pytest.fixture(scope="module")
def here(tiny, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    output = folder / "scored.parquet"
    parquet.write_table(table, folder / "test.parquet")
    done = dubio(
        "score", tiny.adapter, folder / "test.parquet", "--output", output, "--risk", 0.2, "--cache", tiny.cache
    )
    assert done.code == 0, done
    return parquet.read_table(output)


def scored(tiny, source, output, *more):
    return dubio("score", tiny.adapter, source, "--output", output, "--risk", 0.2, "--executor", "ray", *more)


def test_shards_give_the_rows_of_one_process(tiny, table, here, tmp_path):
    shards, output = tmp_path / "shards", tmp_path / "scored.parquet"
    shards.mkdir()
    for i in range(3):
        parquet.write_table(table.slice(100 * i, 100), shards / f"part-{i}.parquet")
    done = scored(tiny, shards, output, "--workers", 2)
    assert done.code == 0, done
    found = parquet.read_table(output)
    assert found.column("id").to_pylist() == here.column("id").cast(pa.int64()).to_pylist()
    assert found.column_names == here.column_names
    for name in ("predicted_label", "decision", "truncated"):
        assert found.column(name).to_pylist() == here.column(name).to_pylist()
    for name in ("probability", "error_probability", "uncertainty_md"):
        assert found.column(name).to_pylist() == pytest.approx(here.column(name).to_pylist(), abs=1e-5)
    assert "answered" in done.out
    assert np.flatnonzero(found.column("truncated").to_pylist()).tolist() == [5, 250]
    assert done.err.count("note: 2 of 300 new rows are longer than 32 tokens, and their end is not read\n") == 1


WRONG = {
    "an unknown executor": (("--executor", "slurm"), "no executor"),
    "an address without Ray": (("--executor", "local", "--address", "auto"), "--address"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused(tiny, tmp_path, name):
    arguments, told = WRONG[name]
    done = dubio("score", tiny.adapter, tiny.test, "--output", tmp_path / "out.parquet", *arguments)
    assert done.code == 2
    assert told in done.err


def test_wrong_tables_are_refused(tiny, table, tmp_path):
    assert "Parquet" in scored(tiny, tiny.test, tmp_path / "out.parquet").err
    assert "Parquet" in scored(tiny, tmp_path, tmp_path / "out.csv").err
    assert "no such file" in scored(tiny, tmp_path / "none.parquet", tmp_path / "out.parquet").err
    own = tmp_path / "own.parquet"
    parquet.write_table(table, own)
    assert "another output" in scored(tiny, own, own).err
    lacking = tmp_path / "lacking.parquet"
    parquet.write_table(table.drop_columns(["text"]), lacking)
    done = scored(tiny, lacking, tmp_path / "out.parquet")
    assert done.code == 2, done
    assert str(lacking) in done.err
    assert "no column 'text', which was fitted on" in done.err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no Parquet" in scored(tiny, empty, tmp_path / "out.parquet").err
    (empty / "part.parquet").write_bytes(b"not Parquet")
    assert "cannot read" in scored(tiny, empty, tmp_path / "out.parquet").err
    assert not (tmp_path / "out.parquet").exists()


def test_a_row_that_cannot_be_scored_is_refused_in_one_line(tiny, table, tmp_path):
    texts = ["fine", None, *table.column("text").to_pylist()[2:]]
    parquet.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    done = scored(tiny, tmp_path / "rows.parquet", tmp_path / "out.parquet", "--workers", 1)
    assert done.code == 2, done
    assert "'fine': row 2: column 'text' is missing" in done.err
    assert not (tmp_path / "out.parquet").exists()
