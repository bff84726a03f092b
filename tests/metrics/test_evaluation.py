import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import log_loss, roc_auc_score

import dubio.metrics as dm
from dubio.containers import Scores
from dubio.errors import DubioError
from dubio.metrics.evaluation import DETECTION

DRAWS = dm.Bootstrap(draws=120, seed=3)


@pytest.fixture(scope="module")
def case():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(500, 3)) * 2
    p = softmax(logits, axis=1)
    labels = np.array([generator.choice(3, p=row) for row in p])
    u = 1 - p.max(axis=1)
    scores = [
        Scores.of("softmax_response", u, u),
        Scores.of("noisy", np.round(u + 0.3 * generator.normal(size=500), 1)),
        Scores.of("noise", generator.normal(size=500)),
    ]
    return logits, labels, scores


def by_name(rows):
    table = {(r.method, r.metric): r for r in rows}
    assert len(table) == len(rows)
    return table


@pytest.mark.parametrize(("wrong", "shown"), [(11, True), (12, False), (20, False)])
def test_a_coverage_of_all_rows_has_no_interval_where_luck_may_have_made_it(wrong, shown):
    """At most a tenth of 200 rows are wrong, so that all may be answered; by the exact bound it may be more."""
    errors = np.arange(200) < wrong
    bound = float(binomtest(wrong, 200).proportion_ci(0.95, "exact").high)
    assert (bound < 0.1) is shown
    logits = np.tile([0.0, 3.0], (200, 1))
    scores = [Scores.of("softmax_response", np.random.default_rng(0).normal(size=200))]
    row = by_name(dm.evaluate_scores("test", scores, logits, np.where(errors, 0, 1), bootstrap=DRAWS))[
        "softmax_response", "coverage_at_risk_10"]  # fmt: skip
    assert row.value == 1
    assert (row.low is not None, row.why is None) == (shown, shown)
    assert shown or "with fewer than 100 wrong rows that may be luck" in row.why


def test_every_row_equals_its_metric(case):
    logits, labels, scores = case
    table = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=DRAWS))
    p, errors = softmax(logits, axis=1), logits.argmax(axis=1) != labels
    for s in scores:
        assert table[s.method, "error_roc_auc"].value == pytest.approx(roc_auc_score(errors, s.uncertainty))
        assert table[s.method, "aurc"].value == dm.aurc(s.uncertainty, errors)
        assert table[s.method, "tie_share"].value == dm.tie_share(s.uncertainty)
        for name in DETECTION:
            row = table[s.method, name]
            assert row.split == "test"
            if name.startswith("coverage_at_risk"):
                assert "fewer than 20 errors under the threshold" in row.why
            else:
                assert row.low < row.value < row.high
    assert table["adapter", "nll"].value == pytest.approx(log_loss(labels, p))
    assert table["adapter", "accuracy"].value == pytest.approx(1 - errors.mean())
    assert table["adapter", "brier"].value == pytest.approx(dm.brier(p, labels))
    assert table["adapter", "ece_equal_mass_15"].value == pytest.approx(
        dm.ece(p.max(axis=1), ~errors, scheme="equal_mass"))  # fmt: skip
    sr = scores[0]
    for name, scheme in (("error_probability_ece", "equal_mass"), ("error_probability_ece_equal_width", "equal_width")):
        row = table[sr.method, name]
        assert row.value == pytest.approx(dm.ece(sr.error_probability, errors, scheme=scheme))
        assert (row.low, row.high) == (None, None)
        assert "see the debiased one" in row.why
        debiased = table[sr.method, f"{name}_debiased"]
        assert 0 <= debiased.low <= debiased.value <= debiased.high
        assert debiased.value < row.value
    tested = table[sr.method, "error_probability_calibration_p"]  # labels were drawn from these probabilities
    assert tested.value > 0.05
    assert tested.why == "nothing speaks against these probabilities"
    assert (scores[1].method, "error_probability_ece") not in table


def test_gains_are_paired_differences(case):
    logits, labels, scores = case
    errors = logits.argmax(axis=1) != labels
    table = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=DRAWS))
    assert ("softmax_response", "error_roc_auc_gain") not in table
    for s in scores[1:]:
        gain = table[s.method, "error_roc_auc_gain"]
        base = scores[0].uncertainty
        assert gain.value == pytest.approx(dm.roc_auc(s.uncertainty, errors) - dm.roc_auc(base, errors))
        assert gain.low < gain.value < gain.high
        delong = dm.delong_test(s.uncertainty, base, errors)
        assert table[s.method, "error_roc_auc_gain_p_delong"].value == delong.p_value
        assert (gain.high - gain.low) / 3.92 == pytest.approx(delong.standard_error, rel=0.35)
    assert table["noise", "error_roc_auc_gain_p"].value < 0.05
    assert table["noise", "error_roc_auc_gain"].high < 0


def test_seed_decides_and_method_order_does_not(case):
    logits, labels, scores = case
    one = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=DRAWS))
    two = by_name(dm.evaluate_scores("test", scores[::-1], logits, labels, bootstrap=DRAWS))
    other = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=dm.Bootstrap(120, 4)))
    assert one == two
    assert one != other


@pytest.mark.parametrize("wrong", [False, True])
def test_without_errors_undefined_metrics_have_no_value_and_say_why(wrong):
    logits = np.array([[3.0, 0], [2, 0], [0, 1], [0, 4]])
    labels = logits.argmax(axis=1) ^ wrong
    scores = [Scores.of("softmax_response", np.arange(4.0)), Scores.of("b", np.arange(4.0)[::-1])]
    table = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=DRAWS))
    assert not {("b", "error_roc_auc_gain_p"), ("b", "error_roc_auc_gain_p_delong")} & set(table)
    undefined = {metric: row for (method, metric), row in table.items() if method == "b" and row.value is None}
    assert set(undefined) == {"error_roc_auc", "error_pr_auc", "fpr_at_95_tpr", "prr", "error_roc_auc_gain"}
    words = "no row is right" if wrong else "no row is wrong"
    for row in undefined.values():
        assert (row.low, row.high, row.why) == (None, None, words)
        with pytest.raises(DubioError, match=f"{row.metric} of b on test is undefined: {words}"):
            _ = row.number
    assert table["b", "aurc"].number == float(wrong)
    assert all(np.isfinite(row.number) for row in table.values() if row.value is not None)


def test_system_metrics(case):
    logits, labels, scores = case
    p = softmax(logits, axis=1)
    rows = dm.evaluate_system("test", "ensemble", p, labels, scores[1].uncertainty, bootstrap=DRAWS)
    table = by_name(rows)
    errors = p.argmax(axis=1) != labels
    assert all(name.startswith("system_") for _, name in table)
    assert table["ensemble", "system_aurc"].value == dm.aurc(scores[1].uncertainty, errors)
    assert table["ensemble", "system_augrc"].value == dm.augrc(scores[1].uncertainty, errors)
    assert table["ensemble", "system_nll"].value == pytest.approx(log_loss(labels, p))
    sure = np.eye(3)[(labels + (np.arange(500) < 5)) % 3]  # five labels are given probability 0
    kept = by_name(dm.evaluate_system("test", "e", sure, labels, scores[1].uncertainty, bootstrap=DRAWS))
    assert kept["e", "system_nll"].value is None
    assert kept["e", "system_nll"].why == "a label was given probability 0"
    assert kept["e", "system_accuracy"].value == pytest.approx(0.99)
    with pytest.raises(DubioError, match="sum to 1"):
        dm.evaluate_system("test", "e", logits, labels, scores[1].uncertainty)


def test_ood():
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(size=200), generator.normal(size=90) + 1
    table = by_name(dm.evaluate_ood([Scores.of("md", inside)], [Scores.of("md", outside)], "ood", bootstrap=DRAWS))
    truth = np.repeat([0, 1], [200, 90])
    row = table["md", "ood_roc_auc"]
    assert row.value == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])))
    assert row.low < row.value < row.high
    with pytest.raises(DubioError, match="same methods"):
        dm.evaluate_ood([Scores.of("a", inside)], [Scores.of("b", outside)], "ood")


def test_rows_that_repeat_count_once(case):
    """Every row three times, told so: the values and intervals of the rows alone; not told: narrower ones."""
    logits, labels, scores = case
    of = np.repeat(np.arange(500), 3)
    many = [Scores.of(s.method, s.uncertainty[of]) for s in scores]
    alone = by_name(dm.evaluate_scores("test", scores, logits, labels, bootstrap=DRAWS))
    told = by_name(dm.evaluate_scores("test", many, logits[of], labels[of], bootstrap=DRAWS, groups=of + 7))
    untold = by_name(dm.evaluate_scores("test", many, logits[of], labels[of], bootstrap=DRAWS))
    for key in (("noise", "error_roc_auc"), ("noise", "error_roc_auc_gain"), ("noisy", "prr"),
                ("adapter", "accuracy"), ("adapter", "nll"), ("noise", "risk_at_coverage_80")):  # fmt: skip
        width = alone[key].high - alone[key].low
        assert told[key].number == pytest.approx(alone[key].number, rel=0.01), key
        assert told[key].high - told[key].low == pytest.approx(width, rel=0.1), key
        assert untold[key].high - untold[key].low < 0.75 * width, key
    assert told["noise", "error_roc_auc_gain_p"].number > untold["noise", "error_roc_auc_gain_p"].number
    assert alone["noisy", "coverage_at_risk_10"].why == told["noisy", "coverage_at_risk_10"].why
    with pytest.raises(DubioError, match="groups"):
        dm.evaluate_scores("test", scores, logits, labels, groups=of)


def test_correlation(case):
    _, _, scores = case
    truth = np.round(scores[0].uncertainty, 1)
    flat = Scores.of("flat", np.zeros(500))
    table = by_name(dm.correlation("test", [*scores, flat], truth, "spearman_disagreement", bootstrap=DRAWS))
    for s in scores:
        row = table[s.method, "spearman_disagreement"]
        assert row.value == pytest.approx(spearmanr(s.uncertainty, truth).statistic)
        assert row.low < row.value < row.high
    assert table["flat", "spearman_disagreement"].value is None
    assert "same score" in table["flat", "spearman_disagreement"].why


def test_refusals(case):
    logits, labels, scores = case
    with pytest.raises(DubioError, match="reference 'x' is not among"):
        dm.evaluate_scores("test", scores, logits, labels, reference="x")
    with pytest.raises(DubioError, match="given once"):
        dm.evaluate_scores("test", [scores[0], scores[0]], logits, labels)
    with pytest.raises(DubioError, match="softmax_response scored 500 rows, and there are 499"):
        dm.evaluate_scores("test", scores, logits[1:], labels[1:])
    with pytest.raises(DubioError, match="no rows"):
        dm.evaluate_scores("test", [], np.zeros((0, 2)), [], reference=None)
    assert dm.evaluate_scores("test", [], logits, labels, reference=None, bootstrap=DRAWS)[0].method == "adapter"


@pytest.mark.parametrize(("rows", "wrong"), [(50, 5), (200, 5), (200, 10), (40, 30)])
def test_the_prr_of_a_perfect_order_has_an_interval_within_what_orders_can_have(rows, wrong):
    errors = np.arange(rows) < wrong
    best = errors + np.linspace(0, 0.5, rows)
    logits = np.stack([np.where(errors, 0.5, 3.0) + np.linspace(0, 0.5, rows), np.zeros(rows)], axis=1)
    found = dm.evaluate_scores("test", [Scores.of("softmax_response", best)], logits, errors.astype(np.int64))
    metric = next(m for m in found if m.metric == "prr")
    assert metric.value == pytest.approx(1)
    assert dm.prr(-best, errors) - 1e-9 <= metric.low <= metric.value <= metric.high + 1e-9


def test_few_draws_leave_the_debiased_ece_its_value_without_an_interval():
    g = np.random.default_rng(0)
    logits = 2 * g.normal(size=(400, 3))
    labels = (logits + g.gumbel(size=logits.shape)).argmax(axis=1)
    scores = [Scores.of("softmax_response", -logits.max(axis=1))]
    few, many = {}, {}
    for out, draws in ((few, 20), (many, 400)):
        for m in dm.evaluate_scores("test", scores, logits, labels, bootstrap=dm.Bootstrap(draws)):
            if m.method == "adapter" and m.metric.endswith("_debiased"):
                out[m.metric] = m
    assert few
    assert few.keys() == many.keys()
    for name, metric in few.items():
        assert metric.value == pytest.approx(many[name].value, abs=0.02)
        assert (metric.low, metric.high) == (None, None)
        assert metric.why == "20 draws are too few for an interval; give at least 40"
