"""One byte changed anywhere: a clear error, or the very same numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from dubio.errors import DubioError
from dubio.log_space import log_softmax
from dubio.models.cache import StoredRepresentations, is_shard, save_arrays, save_shard
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.methods.mc_dropout import McDropout
from dubio.posteriors.store import Stored, load_posterior, save_posterior
from dubio_bench.commands import read_results
from dubio_bench.results.seals import SEALED, sealed
from models.tiny import TEXTS, save_adapter, save_base

ROOT = Path(__file__).parents[2]


def flips(paths, count, seed=0):
    """Yields (path, place) while one byte of one of the files is changed; each file has its share."""
    g, whole = np.random.default_rng(seed), {path: path.read_bytes() for path in paths}
    for number in range(count):
        path = paths[number % len(paths)]
        spoilt = bytearray(whole[path])
        at = int(g.integers(len(spoilt)))
        spoilt[at] ^= int(g.integers(1, 256))
        path.write_bytes(spoilt)
        yield path, at
        path.write_bytes(whole[path])


def check(paths, count, read, same):
    """How many are refused, in one line; all others must be read as before."""
    refused = kept = 0
    for path, at in flips(paths, count):
        try:
            found = read()
        except DubioError as error:
            refused += "\n" not in str(error)
        else:
            assert same(found), (path, at)
            kept += 1
    assert same(read())
    assert refused + kept == count  # each refusal is one line
    return refused


COUNTS = pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])


@COUNTS
def test_of_shards(tmp_path, count):
    g = np.random.default_rng(1)
    features, logits = g.normal(size=(6, 5)).astype(np.float32), g.normal(size=(6, 3)).astype(np.float32)
    drawn = np.stack([log_softmax(g.normal(size=(6, 3))) for _ in range(2)]).astype(np.float32)
    save_shard(tmp_path / "own.safetensors", features, logits)
    save_arrays(
        tmp_path / "drawn.safetensors", {"features": features, "log_probabilities": drawn, "seconds": np.ones(1)}
    )
    paths = [tmp_path / "own.safetensors", tmp_path / "drawn.safetensors"]
    stored = StoredRepresentations((paths[0],), (6,), None, {"p": (paths[1],)})

    def same(table):
        arrays = (table.features, features), (table.logits, logits), (table.samples["p"], drawn)
        return all(np.array_equal(found, own) for found, own in arrays)

    assert check(paths, count, stored.load, same) > 0.95 * count
    for path, at in flips(paths[:1], count // 4, seed=2):  # and what is refused is computed again
        if is_shard(path, features=(6, 5), logits=(6, 3)):
            assert np.array_equal(StoredRepresentations((path,), (6,)).load().features, features), at


@COUNTS
def test_of_posteriors(tmp_path, count):
    tensors = {f"mean|layer/a.{part}": torch.randn(1, 3, 4) for part in ("a", "b")}
    own = Stored("mc_dropout", McDropout(tensors, {"rate": 0.1, "masks": "sample", "seconds": 0.5}), {"scale": 2.0},
                 {"base": "b"}, 4, np.arange(32, dtype=np.uint8).reshape(2, 16))  # fmt: skip
    folder = save_posterior(tmp_path, own).parent
    refused = check(
        sorted(folder.iterdir()), count, lambda: load_posterior(tmp_path, "mc_dropout"),
        lambda found: found.sha256 == own.sha256 and np.array_equal(found.rows, own.rows),
    )  # fmt: skip
    assert refused > 0.95 * count


@pytest.fixture
def results(tmp_path):
    """One outcome of a committed grid, with the checksums that a grid leaves today."""
    source, folder = ROOT / "results" / "laplace-minilm", tmp_path / "laplace-minilm"
    folder.mkdir()
    name = "minilm-cola-0"
    shutil.copy(source / "config.yaml", folder)
    table = parquet.read_table(source / f"{name}.parquet").slice(0, 50)
    parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, **SEALED}), folder / f"{name}.parquet")
    facts = json.loads((source / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps(sealed(facts, rows=folder / f"{name}.parquet")))
    keys = sealed({name: facts["key"]}, config=folder / "config.yaml")
    (folder / "cells.json").write_text(json.dumps(keys))
    return folder


def told(found):
    """All that tables are made of."""
    grid, outcomes = found
    return grid, [(o.facts["metrics"], o.facts["choice"], o.facts["cell"], o.facts["calibration"], o.wrong.tolist(),
                   {n: v.tolist() for n, v in o.ranks.items()},
                   {n: [part.tolist() for part in v] for n, v in o.systems.items()}) for o in outcomes]  # fmt: skip


@COUNTS
def test_of_outcomes(results, count):
    expected = told(read_results(results))
    assert len(expected[1]) == 1
    refused = check(
        sorted(results.iterdir()), count, lambda: read_results(results), lambda found: told(found) == expected
    )
    assert refused > 0.9 * count


def test_results_of_before_are_told_apart(results):
    """They have a checksum neither in the JSON nor in the Parquet; one of the two alone is refused."""
    cell, rows = results / "minilm-cola-0.json", results / "minilm-cola-0.parquet"
    expected, whole, data = told(read_results(results)), cell.read_text(), rows.read_bytes()
    facts = {key: value for key, value in json.loads(whole).items() if key not in ("sha256", "rows_sha256")}
    cell.write_text(json.dumps(facts))
    with pytest.raises(DubioError, match="was changed after it was written"):
        read_results(results)
    table = parquet.read_table(rows)
    plain = {key: value for key, value in table.schema.metadata.items() if key != b"sealed"}
    parquet.write_table(table.replace_schema_metadata(plain), rows)
    cell.write_text(whole)
    with pytest.raises(DubioError, match="was changed after it was written"):
        read_results(results)
    cell.write_text(json.dumps(facts))
    assert told(read_results(results)) == expected
    cell.write_text(whole)
    rows.write_bytes(data)
    (results / "cells.json").unlink()  # and grids of before that
    assert told(read_results(results)) == expected


def test_figures_changed_by_hand_are_refused(results):
    cell = results / "minilm-cola-0.json"
    facts = json.loads(cell.read_text())
    facts["metrics"]["softmax_response"]["error_roc_auc"] += 0.1
    cell.write_text(json.dumps(facts))
    with pytest.raises(DubioError, match="changed after it was written"):
        read_results(results)


def test_a_config_changed_by_hand_is_refused(results):
    (results / "config.yaml").write_text((results / "config.yaml").read_text() + "\n# other words\n")
    with pytest.raises(DubioError, match="is not the one that was run"):
        read_results(results)


def test_rows_of_another_outcome_are_refused(results):
    rows = results / "minilm-cola-0.parquet"
    table = parquet.read_table(rows)
    other = table.set_column(0, "wrong", pa.array(~table.column("wrong").to_numpy()))
    parquet.write_table(other, rows)  # of the same key, and whole in itself
    with pytest.raises(DubioError, match="was changed after it was written"):
        read_results(results)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """(base, adapter), as small as they come."""
    folder = tmp_path_factory.mktemp("flips")
    base = save_base(folder / "base", "bert", hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    adapter = save_adapter(folder / "adapter", base)
    for path in sorted(base.glob("tokenizer*")):
        shutil.copy(path, adapter)
    (adapter / "README.md").unlink(missing_ok=True)
    return base, adapter


@pytest.mark.parametrize("count", [6, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", ["adapter", "tokenizer", "base"])
def test_of_adapters_tokenizers_and_bases(classifier, which, count):
    """Refused, told by other hashes or labels (by which an artifact refuses the model), or the same answers."""
    base, adapter = classifier
    paths = {
        "adapter": [adapter / "adapter_model.safetensors", adapter / "adapter_config.json"],
        "tokenizer": sorted(adapter.glob("tokenizer*")),
        "base": [base / "config.json", base / "model.safetensors"],
    }[which]

    def read():
        model = load(adapter, base=str(base))
        return model.hashes, model.labels, model.max_length, extract(model, TEXTS, how=Extraction(show=False)).logits

    hashes, labels, length, logits = read()

    def same(found):
        if found[:2] != (hashes, labels):
            return True
        return found[2] == length and np.array_equal(found[3], logits)

    check(paths, count, read, same)
