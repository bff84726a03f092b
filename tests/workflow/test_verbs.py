"""The verbs of a notebook, through the lazy top level of the package, on a tiny adapter with its own forward pass."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

import dubio
from dubio.errors import ArtifactError, DubioError
from dubio.models.loading import load
from dubio.models.tokens.lengths import TruncatedWarning
from models.tiny import CLASSES, WORDS, adapter_folder
from workflow.workflow_cases import one_thread, small_grids  # noqa: F401

METHODS = ["softmax_response", "md", "probe", "refitted_both", "adue_calibration"]


def sentences(count, seed):
    g = np.random.default_rng(seed)
    made = {}
    while len(made) < count:
        made.setdefault(" ".join(g.choice(WORDS, g.integers(3, 20))), None)
    return list(made)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs") / "adapter"
    shutil.copytree(adapter_folder("bert"), folder)
    return folder


@pytest.fixture(scope="module")
def model(adapter):
    return dubio.load(adapter)


@pytest.fixture(scope="module")
def tables(model):
    """Texts with labels that the tiny model often misses."""
    out, texts = {}, sentences(700, 0)
    for name, rows in (("train", slice(0, 300)), ("calibration", slice(300, 600)), ("test", slice(600, 700))):
        predicted = dubio.extract(model, texts[rows]).predictions
        missed = np.random.default_rng(1).random(len(predicted)) < 0.3
        labels = [model.labels[i] for i in (predicted + missed) % CLASSES]
        out[name] = dubio.table_of(texts[rows], labels, name=name)
    return out


@pytest.mark.parametrize("cache", [None, "cache"])
def test_extract_warns_once_of_rows_that_are_cut(model, cache, tmp_path):
    texts = ["yes no", "yes no " * 50, "no yes " * 60]
    with pytest.warns(TruncatedWarning) as seen:
        dubio.extract(model, texts, cache=cache and tmp_path / cache)
    said = f"2 of 3 rows are longer than {model.max_length} tokens, and their end is not read"
    assert [str(one.message).startswith(said) for one in seen] == [True]


@pytest.fixture(scope="module")
def rows(model, tables):
    return {name: dubio.extract(model, table) for name, table in tables.items()}


@pytest.fixture(scope="module")
def fit(model, rows):
    return dubio.fit(rows["train"], rows["calibration"], model.head, methods=METHODS)


def test_extract_takes_tables_texts_and_files(model, tables, rows, tmp_path):
    table = tables["test"]
    assert rows["test"].labels is not None
    plain = dubio.extract(model, list(table.texts))
    assert plain.labels is None
    np.testing.assert_array_equal(plain.logits, rows["test"].logits)
    path = tmp_path / "test.csv"
    with path.open("w", newline="", encoding="utf-8") as opened:
        labels = table.raw_labels.to_pylist()
        csv.writer(opened).writerows([["text", "label"], *zip(table.texts, labels, strict=True)])
    for where in (path, str(path)):
        found = dubio.extract(model, where)
        np.testing.assert_array_equal(found.features, rows["test"].features)
        np.testing.assert_array_equal(found.labels, rows["test"].labels)


def test_extract_through_a_cache_gives_the_same_bits(model, tables, rows, tmp_path):
    found = dubio.extract(model, tables["test"], cache=tmp_path / "cache")
    assert found.features.tobytes() == rows["test"].features.tobytes()
    shards = list((tmp_path / "cache").glob("*.safetensors"))
    assert len(shards) == 1
    before = shards[0].stat().st_mtime_ns
    assert dubio.extract(model, tables["test"], cache=tmp_path / "cache").logits.tobytes() == found.logits.tobytes()
    assert shards[0].stat().st_mtime_ns == before


def test_fit_takes_what_its_inputs_allow(rows, fit):
    assert list(fit.methods) == METHODS
    assert fit.choice.method in METHODS
    without = dubio.fit(None, rows["calibration"], methods=METHODS)
    assert list(without.methods) == ["softmax_response", "probe"]


def test_score_by_the_chosen_or_the_named_method(rows, fit):
    chosen = dubio.score(fit, rows["test"])
    assert isinstance(chosen, dubio.Scores)
    assert chosen.method == fit.choice.method
    named = dubio.score(fit, rows["test"], "md")
    np.testing.assert_array_equal(named.uncertainty, fit.methods["md"].score.score(rows["test"]))
    expected = fit.methods["md"].recalibrator.predict(named.uncertainty)
    np.testing.assert_array_equal(named.error_probability, expected)
    with pytest.raises(DubioError, match="'knn' was not fitted; there are: softmax_response, md"):
        dubio.score(fit, rows["test"], "knn")


def test_evaluate(rows, fit):
    found = dubio.evaluate(fit, rows["test"], draws=5, budget=(0.6, 0.1))
    assert {m.method for m in found.metrics} == {*METHODS, "adapter"}
    assert found.threshold.threshold is not None


def test_save_and_load_give_the_same_scores(adapter, model, tables, rows, fit):
    manifest = dubio.save(fit, model, adapter, {name: tables[name] for name in ("train", "calibration")})
    assert manifest == adapter / "dubio" / "manifest.json"
    artifact, read = dubio.load_artifact(adapter, model.head)
    assert isinstance(artifact, dubio.Artifact)
    assert read.choice == fit.choice
    for name in METHODS:
        one, two = dubio.score(fit, rows["test"], name), dubio.score(artifact, rows["test"], name)
        assert one.uncertainty.tobytes() == two.uncertainty.tobytes()
        assert one.error_probability.tobytes() == two.error_probability.tobytes()
    assert dubio.evaluate(artifact, rows["test"], draws=5).threshold.rows == len(fit.errors)


def test_an_artefact_opens_with_its_own_model_only(adapter, model, tables, rows, fit, tmp_path):
    dubio.save(fit, model, tmp_path, {name: tables[name] for name in ("train", "calibration")})
    opened = dubio.open_artifact(str(tmp_path), model)
    assert dubio.promise(opened, 0.6) == dubio.promise(fit, 0.6, 0.1)
    for change, words in (
        ({"max_length": 7}, "tokens a row, not 7; drop --max-length"),
        ({"precision": "bfloat16"}, "fitted in float32, not bfloat16; drop --precision"),
    ):
        with pytest.raises(ArtifactError, match=words):
            dubio.open_artifact(tmp_path, replace(model, **change))


def test_arrays_can_be_saved_without_a_model(model, rows, fit, tmp_path):
    dubio.save(fit, None, tmp_path)
    loaded, manifest = dubio.load_artifact(str(tmp_path))
    assert manifest.labels == [str(label) for label in range(rows["test"].classes)]
    for name in METHODS:
        one, two = dubio.score(fit, rows["test"], name), dubio.score(loaded, rows["test"], name)
        assert one.uncertainty.tobytes() == two.uncertainty.tobytes()
    with pytest.raises(ArtifactError, match="saved from arrays, without a model"):
        dubio.open_artifact(tmp_path, model)


def test_save_refuses_splits_that_share_rows(adapter, model, tables, fit):
    with pytest.raises(DubioError, match="are also in"):
        dubio.save(fit, model, adapter, {"train": tables["train"], "calibration": tables["train"]})


def test_arrays_are_enough_for_fit_score_and_evaluate(rows):
    made = {n: dubio.Representations.of(r.features.tolist(), r.logits.tolist(), r.labels) for n, r in rows.items()}
    fit = dubio.fit(made["train"], made["calibration"], methods=["softmax_response", "md"])
    assert len(dubio.score(fit, made["test"])) == 100
    assert dubio.evaluate(fit, made["test"], draws=3).metrics


def test_the_top_level_is_lazy_complete_and_closed():
    assert set(dubio.__all__) <= set(dir(dubio))
    for name in dubio.__all__:
        assert getattr(dubio, name) is not None
    assert dubio.load is load
    assert dubio.get_method("md").build() is not None
    with pytest.raises(AttributeError, match="module 'dubio' has no attribute 'nonsense'"):
        _ = dubio.nonsense
