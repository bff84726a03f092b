"""Representations on disk: whole or refused, mapped and not read, computed once, and named by what they depend on."""

import json
import mmap
import os
import shutil
import signal
import struct
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.models.cache import StoredRepresentations, map_arrays, save_shard
from dubio.models.extraction import Extraction, extract, extract_to, shard_key
from dubio.models.loading import load
from dubio.models.tokens.batching import Block
from models.tiny import TEXTS, adapter_folder, base_folder, loaded, save_adapter

HOW = Extraction(shard_rows=3, show=False)


@pytest.fixture(scope="module")
def model():
    return loaded("bert")


@pytest.fixture
def forwards(monkeypatch):
    """Counts the rows that pass through a model."""
    rows = []
    forward = AdaptedModel.forward
    monkeypatch.setattr(
        AdaptedModel, "forward", lambda self, batch: rows.append(len(batch["input_ids"])) or forward(self, batch)
    )
    return rows


def mapped(array):
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None


def arrays(rows=5, seed=0):
    g = np.random.default_rng(seed)
    return g.normal(size=(rows, 4)).astype(np.float32), g.normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_map_arrays_equals_the_library(tmp_path, dtype):
    stored = {"a": np.arange(12).reshape(3, 4), "b": np.arange(5), "c": np.zeros((0, 7)), "d": np.array(3)}
    stored = {name: value.astype(dtype) for name, value in stored.items()}
    save_file(stored, tmp_path / "x.safetensors", metadata={"note": "kept out"})
    found = map_arrays(tmp_path / "x.safetensors")
    assert set(found) == set(stored)
    for name, expected in load_file(tmp_path / "x.safetensors").items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], expected)
    assert mapped(found["a"])
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0, 0] = 1


def test_no_tensors_at_all(tmp_path):
    save_file({}, tmp_path / "x.safetensors")
    assert map_arrays(tmp_path / "x.safetensors") == {}


@pytest.mark.parametrize("cut", [0, 4, 8, 30, -1, -40])
def test_cut_short(tmp_path, cut):
    save_shard(tmp_path / "x", *arrays())
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole[:cut])
    with pytest.raises(DubioError, match=r"x is not a whole safetensors file .*; delete it and run again"):
        map_arrays(tmp_path / "x")
    (tmp_path / "x").write_bytes(whole + b"\0")
    with pytest.raises(DubioError, match="bytes instead of"):
        map_arrays(tmp_path / "x")


@pytest.mark.parametrize("header", [
    [], 3, {"a": 1}, {"a": {"dtype": "F32"}},
    *({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}} for dtype, shape, offsets in [
        ("F8", [1], [0, 4]), (["F32"], [1], [0, 4]), ("F32", [2], [0, 4]), ("F32", 1, [0, 4]), ("F32", [-1], [4, 0]),
        ("F32", [1], [0]), ("F32", [1.0], [0, 4]), ("F32", ["1"], [0, 4]), ("F32", [1], [-4, 0]),
    ]),
])  # fmt: skip
def test_headers_that_lie(tmp_path, header):
    raw = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
    with pytest.raises(DubioError, match="not a whole safetensors file"):
        map_arrays(tmp_path / "x")


@pytest.mark.parametrize("raw", [
    struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2**40) + b"{}", struct.pack("<Q", 4) + b"\xff\xfe{}",
    struct.pack("<Q", 200_000) + b"[" * 200_000,
])  # fmt: skip
def test_headers_that_are_none(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(DubioError, match="not a whole safetensors file"):
        map_arrays(tmp_path / "x")


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 250), byte=st.integers(0, 255))
def test_any_byte_of_a_header_changed_is_an_error_or_harmless(tmp_path_factory, position, byte):
    folder = tmp_path_factory.getbasetemp() / "flips"
    save_shard(folder / "x", *arrays())
    raw = bytearray((folder / "x").read_bytes())
    raw[position] = byte
    (folder / "x").write_bytes(raw)
    with suppress(DubioError):
        found = map_arrays(folder / "x")
        assert all(np.asarray(value).nbytes <= len(raw) for value in found.values())


def test_missing_file(tmp_path):
    with pytest.raises(DubioError, match="is missing"):
        map_arrays(tmp_path / "none")


def test_stored_tables_are_mapped_one_shard_at_a_time(model, tmp_path):
    labels = np.arange(len(TEXTS)) % 3
    stored = extract_to(model, TEXTS, None, tmp_path, labels=labels, how=HOW)
    assert (len(stored), stored.rows, len(list(tmp_path.iterdir()))) == (len(TEXTS), (3, 3, 1), 3)
    parts = list(stored)
    assert [len(part) for part in parts] == [3, 3, 1]
    assert all(mapped(part.features) and mapped(part.logits) for part in parts)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), labels)
    whole = stored.load()
    assert not mapped(whole.features)
    assert not mapped(StoredRepresentations(stored.shards[:1], (3,)).load().features)
    in_memory = extract(model, TEXTS, labels=labels, how=HOW)
    for name in ("features", "logits", "labels"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(in_memory, name))


def test_a_shard_of_other_rows_is_refused(tmp_path):
    save_shard(tmp_path / "x", *arrays(rows=5))
    assert len(StoredRepresentations((tmp_path / "x",), (5,)).load()) == 5
    with pytest.raises(DubioError, match="x does not hold the 4 rows expected"):
        StoredRepresentations((tmp_path / "x",), (4,)).load()
    save_file({"features": arrays()[0]}, tmp_path / "x")
    with pytest.raises(DubioError, match="x does not hold the 5 rows expected"):
        list(StoredRepresentations((tmp_path / "x",), (5,)))


def test_numbers_that_are_none_are_refused(tmp_path):
    features, logits = arrays()
    features[2, 1] = np.nan
    save_shard(tmp_path / "x", features, logits)
    with pytest.raises(DubioError, match="x: features: row 2 holds NaN"):
        list(StoredRepresentations((tmp_path / "x",), (5,)))


def test_shards_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    def torn(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr("dubio.models.cache.save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        save_shard(tmp_path / "x", *arrays())
    assert not list(tmp_path.iterdir())


def test_only_missing_shards_are_computed(model, tmp_path, forwards):
    first = extract_to(model, TEXTS, None, tmp_path, how=HOW).load()
    assert sum(forwards) == len(TEXTS)
    forwards.clear()
    again = extract_to(model, TEXTS, None, tmp_path, labels=np.zeros(len(TEXTS), int), how=HOW)
    assert not forwards  # labels are not part of a shard
    again.shards[1].unlink()
    third = extract_to(model, TEXTS, None, tmp_path, how=HOW).load()
    assert sum(forwards) == 3
    np.testing.assert_array_equal(third.features, first.features)
    forwards.clear()
    extract_to(model, [*TEXTS[:6], "yes yes"], None, tmp_path, how=HOW)
    assert sum(forwards) == 1  # the first two shards serve any table that begins alike


def test_a_damaged_shard_is_computed_again(model, tmp_path, forwards):
    first = extract_to(model, TEXTS, None, tmp_path, how=HOW)
    expected = first.load()
    first.shards[0].write_bytes(first.shards[0].read_bytes()[:-8])
    save_shard(first.shards[1], *(table[:2] for table in (expected.features, expected.logits)))
    forwards.clear()
    found = extract_to(model, TEXTS, None, tmp_path, how=HOW)
    assert sum(forwards) == sum(first.rows[:2])
    np.testing.assert_array_equal(found.load().features, expected.features)


def test_a_key_names_all_that_numbers_depend_on(model, tmp_path):
    def key(m=model, texts=TEXTS, pairs=None, how=HOW):
        return shard_key(m, Block(0, texts, pairs), how)

    alpha = shutil.copytree(adapter_folder("bert"), tmp_path / "alpha")
    facts = json.loads((alpha / "adapter_config.json").read_text())
    (alpha / "adapter_config.json").write_text(json.dumps({**facts, "lora_alpha": 99}))
    base = shutil.copytree(base_folder("bert"), tmp_path / "base")
    activation = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**activation, "hidden_act": "relu"}))
    keys = [
        key(), key(texts=TEXTS[::-1]), key(texts=[*TEXTS[:-1], "gate 42 "]), key(pairs=TEXTS),
        key(replace(model, max_length=16)), key(load(adapter_folder("bert"), precision="bfloat16")),
        key(loaded("bert", "dora")), key(load(save_adapter(tmp_path / "b", base_folder("bert"), seed=2))),
        key(load(alpha)), key(load(alpha, base=str(base))), key(loaded("bert", None)),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key() == key(load(adapter_folder("bert")))


def test_a_killed_run_resumes(model, tmp_path, forwards):
    """kill -9 in the middle: what is there is whole, and the next run computes the rest, to the same bits."""
    how = Extraction(shard_rows=2, token_budget=8, show=False)
    expected = extract(model, TEXTS, how=how)
    child = os.fork()
    if child == 0:
        signal.alarm(600)
        forwards.clear()
        advance = AdaptedModel.forward
        AdaptedModel.forward = lambda m, batch: (sum(forwards) > 2 and os.kill(os.getpid(), 9)) or advance(m, batch)
        extract_to(model, TEXTS, None, tmp_path, how=how)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (found,) = tmp_path.glob("*.safetensors")
    before = found.stat().st_mtime_ns
    np.testing.assert_array_equal(map_arrays(found)["features"], expected.features[:2])
    forwards.clear()
    table = extract_to(model, TEXTS, None, tmp_path, how=how).load()
    assert sum(forwards) == len(TEXTS) - 2
    assert found.stat().st_mtime_ns == before
    np.testing.assert_array_equal(table.features, expected.features)
