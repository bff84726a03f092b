"""Rows know whether they were pairs, and what was fitted on the one kind does not judge the other."""

import json
from dataclasses import replace

import numpy as np
import pytest

import dubio
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from models.tiny import WORDS, adapter_folder
from synthetic import planted

SINGLE = "these rows are single texts, and dubio was fitted on pairs of texts"
PAIRS = "these rows are pairs of texts, and dubio was fitted on single texts"


def rows(pairs, count=300, seed=0):
    table, _ = planted(count, seed=seed)
    return replace(table, pairs=pairs)


@pytest.mark.parametrize(("fitted", "given", "words"), [(True, False, SINGLE), (False, True, PAIRS)])
def test_rows_of_the_other_kind_are_refused(fitted, given, words):
    fit = dubio.fit(None, rows(fitted), methods=["softmax_response"])
    assert fit.pairs is fitted
    for verb in (dubio.score, dubio.evaluate):
        with pytest.raises(DubioError, match=words):
            verb(fit, rows(given, seed=1))
        verb(fit, rows(fitted, seed=1))
        verb(fit, rows(None, seed=1))  # bare arrays: nobody knows
    with pytest.raises(DubioError, match=words):
        dubio.evaluate(fit, rows(fitted, seed=1), ood=rows(given, seed=2))
    with pytest.raises(DubioError, match="the training rows are"):
        dubio.fit(rows(given, seed=3), rows(fitted), methods=["softmax_response"])
    unknown = dubio.fit(None, rows(None), methods=["softmax_response"])
    dubio.score(unknown, rows(given))


def test_the_mark_travels_with_the_rows():
    table = rows(True, 6)
    assert table.take(slice(0, 3)).pairs is True
    assert concatenate([table, table]).pairs is True
    assert concatenate([table, rows(False, 6)]).pairs is None
    assert Representations.of(table.features, table.logits).pairs is None


def test_from_texts_to_an_opened_artifact(tmp_path):
    g = np.random.default_rng(0)
    folder = adapter_folder("bert")
    model = dubio.load(folder)
    one, two = ([" ".join(g.choice(WORDS, 5)) for _ in range(200)] for _ in range(2))
    labels = [model.labels[i] for i in g.integers(0, len(model.labels), 200)]
    table = dubio.table_of(one, labels, two)
    seen = dubio.extract(model, table)
    assert (seen.pairs, dubio.extract(model, one[:9]).pairs) == (True, False)
    dubio.save(dubio.fit(None, seen, methods=["softmax_response"]), model, tmp_path, {"calibration": table})
    path = tmp_path / "dubio" / "manifest.json"
    kept = {"pairs": True, "text": None, "text_pair": None, "label": None}
    assert json.loads(path.read_text())["model"]["input"] == kept
    fitted = dubio.open_artifact(tmp_path, model)
    assert fitted.pairs is True
    with pytest.raises(DubioError, match=SINGLE):
        dubio.score(fitted, dubio.extract(model, one))
    dubio.score(fitted, dubio.extract(model, dubio.table_of(one, pairs=two)))
    assert replace(fitted, model={k: v for k, v in fitted.model.items() if k != "input"}).pairs is None
