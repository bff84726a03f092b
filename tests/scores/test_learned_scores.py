"""AdUE, anchored probe and refitted head: the published checks, limits, honesty, and refusal of nonsense."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from dubio.containers import Representations, concatenate
from dubio.errors import DubioError, NotFittedError
from dubio.log_space import error_log_odds, log_error
from dubio.scores.base import fold_of
from dubio.scores.learned.adue import AdUE
from dubio.scores.learned.anchored_probe import AnchoredProbe
from dubio.scores.learned.refitted_head import RefittedHead
from dubio.scores.registry import METHODS
from synthetic import planted

SMALL = {"learning_rates": (1e-2, 1e-3), "epochs": (3,), "alphas": (0.0, 0.3), "betas": (0.01, 1.0)}


@pytest.fixture(scope="module")
def tables():
    train, head = planted(1500, flip=1.5, seed=1)
    return train, planted(800, flip=1.5, seed=2)[0], planted(3000, flip=1.5, seed=3)[0], head


def auc(table, scores):
    return roc_auc_score(table.errors, scores)


def roberta_head(d=12, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(d, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, classes))


def with_head(table, head):
    with torch.no_grad():
        return Representations.of(table.features, head.eval()(torch.from_numpy(table.features)).numpy(), table.labels)


@pytest.mark.parametrize("fit", ["train", "calibration", "both"])
def test_adue_finds_errors_that_the_features_explain(tables, fit):
    train, calibration, test, head = tables
    score = AdUE.with_options({**SMALL, "fit": fit}, head=head).fit(train, calibration)
    assert auc(test, score.score(test)) > auc(test, log_error(test.logits)) + 0.01
    assert score.facts_["trials"] == 8


@pytest.mark.parametrize("options", [{"balance": "resample"}, {"balance": "weights"}, {"scaled": True},
                                     {"init": "random_head"}, {"init": "random_linear"}])  # fmt: skip
def test_adue_options_all_learn(tables, options):
    train, calibration, test, head = tables
    score = AdUE.with_options({**SMALL, "epochs": (20,), **options}, head=head).fit(train, calibration)
    assert auc(test, score.score(test)) > 0.55


def test_adue_untrained_is_softmax_response(tables):
    """At the initial weights U and softmax response differ by at most log(C) / lambda."""
    train, calibration, test, head = tables
    still = {"learning_rates": (1e-30,), "epochs": (1,), "alphas": (0.0,), "betas": (0.01,)}
    u = AdUE.with_options(still, head=head).fit(train, calibration).score(test)
    assert np.abs(u - np.exp(log_error(test.logits))).max() <= np.log(3) / 100 + 1e-6


def test_adue_copies_a_dense_head_exactly(tables):
    """The copy in eval mode gives the original head's logits; the original is left as it was."""
    head = roberta_head()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    train, calibration = with_head(tables[0], head), with_head(tables[1], head)
    score = AdUE.with_options(SMALL, head=head)
    x = torch.from_numpy(train.features)
    torch.testing.assert_close(score._starting_head(train)(x), head.eval()(x))
    score.fit(train, calibration)
    assert all(torch.equal(before[k], v) for k, v in head.state_dict().items())
    assert not torch.equal(score.head_[1].weight, head[1].weight)


def test_adue_guard_falls_back_where_nothing_can_be_gained():
    table, head = planted(900, flip=0.0)  # the adapter is the truth: softmax response is best
    other = planted(900, flip=0.0, seed=7)[0]
    score = AdUE.with_options({**SMALL, "guard": True}, head=head).fit(table, other)
    assert score.facts_["fell_back"]
    np.testing.assert_array_equal(score.score(other), log_error(other.logits))
    assert score.facts_["guard"]["low"] <= 0


def test_adue_keeps_its_out_of_fold_scores_honest():
    """With labels that nothing explains, in-sample scores would look good; out-of-fold ones must not."""
    table, head = planted(300, d=100)
    g = np.random.default_rng(0)
    noise = Representations.of(table.features, table.logits, g.integers(0, 3, 300))
    options = {**SMALL, "learning_rates": (3e-2,), "epochs": (60,), "alphas": (0.0,), "betas": (0.0,)}
    score = AdUE.with_options({**options, "fit": "calibration"}, head=head).fit(None, noise)
    assert auc(noise, score.score(noise)) > 0.7
    assert auc(noise, score.out_of_fold(None, noise)) < 0.6


def test_adue_refuses_a_missing_or_foreign_head(tables):
    train, calibration, _, _ = tables
    with pytest.raises(DubioError, match="copies the classification head"):
        AdUE().fit(train, calibration)
    with pytest.raises(DubioError, match="does not map"):
        AdUE(head=nn.Linear(12, 3)).fit(train, calibration)
    with pytest.raises(DubioError, match="smoothness"):
        AdUE.with_options({"smoothness": 5.0})


def test_balancing_without_errors_is_refused(tables):
    train, calibration, _, head = tables
    perfect = Representations.of(train.features, train.logits, train.predictions)
    with pytest.raises(DubioError, match="both right and wrong"):
        AdUE.with_options({**SMALL, "balance": "weights"}, head=head).fit(perfect, calibration)


def test_probe_equals_softmax_response_under_a_strong_ridge(tables):
    _, calibration, test, _ = tables
    score = AnchoredProbe.with_options({"ridges": (1e9,)}).fit(None, calibration)
    np.testing.assert_allclose(score.score(test), error_log_odds(test.logits), atol=1e-5)


def misread(table):
    """Rows whose first feature is large get another label: one direction explains their errors, whatever the class."""
    labels = np.where(table.features[:, 0] > 1, (table.labels + 1) % table.classes, table.labels)
    return Representations.of(table.features, table.logits, labels)


@pytest.mark.parametrize("classwise", [False, True])
def test_probe_gains_and_is_a_probability(tables, classwise):
    train, calibration, test = (table if classwise else misread(table) for table in tables[:3])
    score = AnchoredProbe.with_options({"fit": "both", "class_directions": classwise}).fit(train, calibration)
    u = score.score(test)
    assert auc(test, u) > auc(test, log_error(test.logits)) + 0.01
    before = log_loss(test.errors, np.exp(log_error(test.logits)))
    assert log_loss(test.errors, expit(u)) < before


def test_probe_survives_constant_features_and_fewer_rows_than_features():
    table, _ = planted(60, d=100, classes=2)
    z = np.column_stack([table.features, np.full((60, 2), 3.0)])
    rows = Representations.of(z, table.logits, table.labels)
    moved = Representations.of(z + 1.0, table.logits, table.labels)
    score = AnchoredProbe().fit(None, rows)
    assert np.isfinite(score.score(moved)).all()


def test_probe_with_directions_for_many_classes_is_refused():
    g = np.random.default_rng(0)
    rows = Representations.of(g.normal(size=(400, 4)), g.normal(size=(400, 80)), g.integers(0, 80, 400))
    with pytest.raises(DubioError, match="class_directions"):
        AnchoredProbe.with_options({"class_directions": True}).fit(None, rows)


@pytest.mark.parametrize("classes", [2, 3])
def test_refitted_head_equals_scikit_learn(classes):
    table, _ = planted(500, classes=classes, seed=5)
    held, test = planted(300, classes=classes, seed=6)[0], planted(200, classes=classes, seed=8)[0]
    score = RefittedHead.with_options({"fit": "both", "strengths": (0.01,), "steps": 1000}).fit(table, held)
    rows = concatenate([table, held])
    scaler = StandardScaler().fit(rows.features.astype(np.float64))
    model = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(rows.features), rows.labels)
    expected = model.predict_proba(scaler.transform(test.features.astype(np.float64)))
    np.testing.assert_allclose(np.exp(score.log_probabilities(test)), expected, atol=1e-3)
    own = expected[np.arange(200), test.predictions]
    np.testing.assert_allclose(score.score(test), np.log1p(-own), atol=5e-3)


def test_refitted_head_survives_a_class_without_rows(tables):
    train, calibration, test, _ = tables
    wide = [Representations.of(t.features, np.column_stack([t.logits, np.full(len(t), -20.0)]), t.labels)
            for t in (train, calibration, test)]  # fmt: skip
    score = RefittedHead.with_options({"fit": "both"}).fit(*wide[:2])
    assert np.isfinite(score.score(wide[2])).all()
    assert np.exp(score.log_probabilities(wide[2]))[:, 3].max() < 1e-6
    narrow = RefittedHead.with_options({"fit": "both"}).fit(train, calibration)
    np.testing.assert_allclose(score.score(wide[2]), narrow.score(test), atol=1e-6)


def test_refitted_head_takes_the_strength_of_the_best_held_out_gain(tables):
    """By a loop: scikit-learn on the other folds, its probability of the predicted class on the fold, its AUC."""
    _, calibration, _, _ = tables
    strengths, folds = (1e-6, 1e-3, 1.0), fold_of(calibration)
    method = RefittedHead.with_options({"fit": "calibration", "strengths": strengths}).fit(None, calibration)
    gains = []
    for strength in strengths:
        aucs = []
        for fold in range(5):
            kept, held = calibration.take(folds != fold), calibration.take(folds == fold)
            scaler = StandardScaler().fit(kept.features)
            model = LogisticRegression(C=strength, max_iter=500).fit(scaler.transform(kept.features), kept.labels)
            own = model.predict_proba(scaler.transform(held.features))[np.arange(len(held)), held.predictions]
            aucs.append(roc_auc_score(held.errors, 1 - own) - auc(held, log_error(held.logits)))
        gains.append(np.mean(aucs))
    assert np.ptp(gains) > 0.01
    assert method.facts_["strength"] == strengths[int(np.argmax(gains))]
    assert method.facts_["cross_validated_gain"] == pytest.approx(max(gains), abs=2e-3)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_refuses_to_score_before_fit_and_unknown_options(name, tables):
    with pytest.raises(NotFittedError):
        METHODS[name].build(head=tables[3]).score(tables[2])
    with pytest.raises(DubioError, match="option nonsense"):
        METHODS[name].build(nonsense=1)
