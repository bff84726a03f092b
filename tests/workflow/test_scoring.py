import numpy as np
import pytest
from scipy.special import softmax

from dubio.errors import DubioError
from dubio.models.cache import StoredRepresentations, save_shard
from dubio.workflow.evaluation import promise
from dubio.workflow.scoring import Decision, score_rows
from planted_artifact import LABELS, METHODS, made
from synthetic import planted


@pytest.fixture(scope="module")
def artifact():
    return made()


def stored(folder, rows, sizes):
    """The rows as shards of the given sizes."""
    paths, start = [], 0
    for size in sizes:
        paths.append(folder / f"{len(sizes)}-{start}.safetensors")
        save_shard(paths[-1], rows.features[start : start + size], rows.logits[start : start + size])
        start += size
    assert start == len(rows)
    return StoredRepresentations(tuple(paths), tuple(sizes))


def test_columns_and_what_they_hold(artifact, tmp_path):
    rows, _ = planted(200, seed=7)
    cut = float(np.median(artifact.methods["md"].score.score(rows)))
    table = score_rows(artifact, stored(tmp_path, rows, [200]), Decision("md", cut))
    assert table.column_names == ["predicted_label", "probability", *(f"uncertainty_{name}" for name in METHODS),
                                  "error_probability", "decision"]  # fmt: skip
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    assert list(columns["predicted_label"]) == [LABELS[k] for k in rows.logits.argmax(axis=1)]
    np.testing.assert_allclose(
        columns["probability"], softmax(rows.logits.astype(float), axis=1).max(axis=1), rtol=1e-6
    )
    for name, method in artifact.methods.items():
        np.testing.assert_array_equal(columns[f"uncertainty_{name}"], method.score.score(rows))
    chance = artifact.methods["md"].recalibrator.predict(columns["uncertainty_md"])
    np.testing.assert_array_equal(columns["error_probability"], chance)
    np.testing.assert_array_equal(columns["decision"] == "answer", columns["uncertainty_md"] <= cut)
    assert set(columns["decision"]) == {"answer", "abstain"}


@pytest.mark.parametrize("sizes", [[200], [1, 199], [64, 64, 64, 8]])
def test_shards_do_not_matter(artifact, tmp_path, sizes):
    rows, _ = planted(200, seed=7)
    decision = Decision("softmax_response", -1.0)
    found = score_rows(artifact, stored(tmp_path, rows, sizes), decision).to_pydict()
    whole = score_rows(artifact, stored(tmp_path / "whole", rows, [200]), decision).to_pydict()
    for name, values in found.items():
        if name.startswith(("uncertainty", "error")):  # matrix products of other sizes may round in other ways
            np.testing.assert_allclose(values, whole[name], rtol=1e-9, err_msg=name)
        else:
            assert values == whole[name], name


def test_answers_at_the_threshold_itself_and_nothing_without_one(artifact, tmp_path):
    rows, _ = planted(50, seed=8)
    table = stored(tmp_path, rows, [50])
    scores = np.sort(artifact.methods["softmax_response"].score.score(rows))
    for threshold, answered in ((scores[9], 10), (np.nextafter(scores[9], -np.inf), 9), (None, 0), (np.inf, 50)):
        decision = Decision("softmax_response", None if threshold is None else float(threshold))
        found = score_rows(artifact, table, decision).column("decision").to_pylist()
        assert found.count("answer") == answered
        assert found.count("abstain") == 50 - answered


def test_decides_by_the_chosen_method_and_its_promise(artifact):
    for risk, promised in ((0.5, True), (1e-6, False)):
        found = promise(artifact, risk, 0.1)
        decision = Decision.of(artifact, found)
        assert decision == Decision(artifact.choice.method, found.threshold)
        assert (decision.threshold is not None) == promised


def test_spoilt_shards_are_refused(artifact, tmp_path):
    rows, _ = planted(20, seed=8)
    rows.features[13, 2] = np.nan
    with pytest.raises(DubioError, match="row 13 holds NaN"):
        score_rows(artifact, stored(tmp_path, rows, [20]), Decision("md", None))
    table = stored(tmp_path, planted(20, seed=8)[0], [20])
    table.shards[0].write_bytes(table.shards[0].read_bytes()[:-1])
    with pytest.raises(DubioError, match="is not a whole safetensors file"):
        score_rows(artifact, table, Decision("md", None))
