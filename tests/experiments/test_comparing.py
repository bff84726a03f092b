"""Ranks, paired intervals, Holm and the critical difference, each against a slow computation or a printed table."""

from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.metrics.evaluation import ADAPTER
from dubio_bench.results.cell_result import Outcome, dense_ranks
from dubio_bench.results.export import critical_difference
from dubio_bench.results.statistics import Difference, _means, compare, holm
from dubio_bench.results.tables import _note


def cell(model, data, seed, scores, wrong, systems=None, whose="own"):
    """An outcome from scores by name."""
    made = {name: (w, loss.astype(np.float32), dense_ranks(u)) for name, (w, loss, u) in (systems or {}).items()}
    facts = {"cell": {"model": model, "data": data, "seed": seed, "predictions": whose}, "metrics": {}}
    return Outcome(facts, wrong, {n: dense_ranks(s) for n, s in scores.items()}, made)


def planted(columns=3, seeds=2, rows=200, strength=(2.0, 1.0, 0.0)):
    g = np.random.default_rng(0)
    cells = []
    for column in range(columns):
        for seed in range(seeds):
            wrong = g.random(rows) < 0.3
            scores = {f"m{i}": s * wrong + g.normal(size=rows) for i, s in enumerate(strength)}
            cells.append(cell("model", f"set{column}", seed, scores, wrong))
    return cells


def test_values_are_the_metric_of_each_seed():
    cells = planted()
    found = compare(cells, "error_roc_auc", draws=0)
    for column in found.columns:
        own = [c for c in cells if c.place[1] == column.data]
        for method in found.methods:
            expected = [roc_auc_score(c.wrong, c.ranks[method]) for c in own]
            assert np.allclose(column.values[method], expected)


def test_draws_are_those_of_resampled_rows_and_seeds():
    cells = planted(columns=1, seeds=3, rows=60)
    found = compare(cells, "error_roc_auc", draws=400)
    g, slow = np.random.default_rng(5), []
    for _ in range(400):
        rows, seeds = g.integers(0, 60, 60), g.integers(0, 3, 3)
        value = [roc_auc_score(cells[s].wrong[rows], cells[s].ranks["m0"][rows]) for s in seeds
                 if 0 < cells[s].wrong[rows].sum() < 60]  # fmt: skip
        slow.append(np.mean(value))
    fast = found.columns[0].draws["m0"]
    assert abs(np.mean(slow) - fast.mean()) < 0.01
    assert abs(np.std(slow) / fast.std() - 1) < 0.2


def test_ranks_average_over_columns_and_share_ties():
    cells = planted()
    for c in cells:
        c.ranks["twin"] = c.ranks["m0"]
    found = compare(cells, "error_roc_auc", draws=0)
    assert found.ranks == {"m0": 1.5, "twin": 1.5, "m1": 3.0, "m2": 4.0}


def test_less_is_better_for_a_risk():
    cells = planted()
    assert min(compare(cells, "aurc", draws=0).ranks.items(), key=lambda item: item[1])[0] == "m0"
    assert compare(cells, "aurc", draws=0).sign == -1


def test_differences_wins_and_losses():
    found = compare(planted(rows=600), "error_roc_auc", draws=500)
    d = found.difference("m0", "m1")
    assert d.low < d.value < d.high
    assert d.low > 0
    assert d.p < 0.01
    assert found.difference("m1", "m1") == Difference(0.0, 0.0, 0.0, 1.0)
    assert found.verdicts("m1") == {"m0": (3, 0, 0), "m2": (0, 0, 3)}
    assert compare(planted(strength=(0.02, 0.0)), "error_roc_auc", draws=500).verdicts("m1") == {"m0": (0, 3, 0)}


def test_systems_are_judged_by_their_own_predictions():
    g = np.random.default_rng(1)
    wrong, other = g.random(100) < 0.3, g.random(100) < 0.1
    loss, less = g.random(100), g.random(100) / 2
    systems = {ADAPTER: (wrong, loss, g.random(100)), "ensemble": (other, less, g.random(100))}
    cells = [cell("m", "d", 0, {"softmax_response": g.random(100)}, wrong, systems)]
    found = compare(cells, "nll", draws=200)
    assert found.methods == ("system:adapter", "system:ensemble")
    assert np.isclose(found.mean("system:ensemble", found.columns[0]), less.mean())
    assert found.verdicts("system:adapter") == {"system:ensemble": (1, 0, 0)}
    accuracy = compare(cells, "accuracy", methods=["system:ensemble"], draws=0)
    assert np.isclose(accuracy.mean("system:ensemble", accuracy.columns[0]), 1 - other.mean())


def test_a_method_that_a_cell_lacks_is_left_out_and_told():
    cells = planted()
    del cells[0].ranks["m1"]
    assert compare(cells, "error_roc_auc", draws=0).left_out == ("m1",)


def test_what_is_read_from_samples_says_where_its_cost_is_told():
    plain, sampled = planted(), planted()
    for c in sampled:
        c.ranks["five.distilled"] = c.ranks.pop("m1")
    assert "see the systems" not in _note(compare(plain, "error_roc_auc", draws=0))
    assert "see the systems" in _note(compare(sampled, "error_roc_auc", draws=0))


def test_nothing_to_compare_is_refused():
    with pytest.raises(DubioError, match="no finished cells"):
        compare([], "error_roc_auc")
    with pytest.raises(DubioError, match="no metric"):
        compare(planted(), "auc")
    with pytest.raises(DubioError, match="'m9'"):
        compare(planted(), "error_roc_auc", methods=["m9"])
    uneven = [*planted(columns=1, rows=50), *planted(columns=1, rows=60)]
    with pytest.raises(DubioError, match="different rows"):
        compare(uneven, "error_roc_auc")


def test_a_cell_without_errors_is_left_out_and_told():
    cells = planted()
    cells[1] = cell("model", "set0", 1, {m: r.astype(float) for m, r in cells[1].ranks.items()}, np.zeros(200, bool))
    found = compare(cells, "error_roc_auc", draws=50)
    assert found.columns[0].seeds == (0,)
    assert found.left_out == ("model-set0-1 (no errors)",)
    assert np.isfinite(found.difference("m0", "m1").low)


def test_intervals_cover_what_another_training_would_give():
    """Seeds alone vary: the interval of the mean of 5 columns of 3 seeds holds 0 nearly as often as it says."""
    held = 0
    for run in range(200):
        g = np.random.default_rng(run)
        columns = []
        for i in range(5):
            gains = g.normal(size=(3, 1)) * np.ones((1, 400))
            chosen = np.random.default_rng([run, i]).multinomial(3, np.full(3, 1 / 3), size=400).T
            columns.append(_means(gains, chosen))
        d = Difference.of(0.0, np.mean(columns, axis=0))
        held += d.low <= 0 <= d.high
    assert 0.85 <= held / 200 <= 1


def test_holm_steps_down():
    # sorted: .01 <= .05/4, .013 <= .05/3, .02 <= .05/2, .2 > .05
    assert holm([0.02, 0.2, 0.01, 0.013]) == [True, False, True, True]
    # .03 > .05/2 stops it, so .04 is not rejected either, though .04 <= .05
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([np.nan, 0.001]) == [False, True]
    assert holm([0.001, 0.002]) == [True, True]
    assert holm([]) == []


# Demsar 2006, table 5: critical values of the two-tailed Nemenyi test at 0.05.
@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_nemenyis(methods, q):
    cells = planted(columns=6, seeds=1, rows=40, strength=np.linspace(2, 0, methods))
    found = compare(cells, "error_roc_auc", draws=0)
    expected = q * np.sqrt(methods * (methods + 1) / (6 * 6))
    assert abs(found.critical_difference() - expected) < 1e-3 * expected


def test_cliques_join_what_does_not_differ():
    found = compare(planted(columns=12, rows=400, strength=(3.0, 2.9, 0.0, 0.0)), "error_roc_auc", draws=0)
    assert [set(clique) for clique in found.cliques()] == [{"m0", "m1"}, {"m2", "m3"}]
    assert compare(planted(columns=1), "error_roc_auc", draws=0).critical_difference() is None
    assert compare(planted(columns=1), "error_roc_auc", draws=0).cliques() == []


@pytest.mark.parametrize("name", ["$", "a$b$c$", r"$\frac{1}{0}$", r"$\undefined$", "$$", r"\$", "a_b^c"])
def test_dollars_in_names_are_no_mathematics(name):
    found = compare(planted(columns=3), "error_roc_auc", draws=0)
    drawn = critical_difference(found, [name] * len(found.methods))
    assert ElementTree.fromstring(drawn) is not None
