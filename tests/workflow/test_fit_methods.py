"""Fitting: halves that never meet, a choice that is hard to fool, and refusals in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dubio.containers import Representations
from dubio.decisions import Recalibrator
from dubio.errors import DubioError
from dubio.log_space import log_error
from dubio.scores.registry import METHODS
from dubio.workflow.fitting import INCUMBENT, FitPlan, choose, fit_methods, halves
from invariants.invariant_cases import linear_head
from workflow.workflow_cases import FAST, fitted, one_thread, parts, small_grids  # noqa: F401


def bytes_of(state):
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return arrays, json.dumps(state.facts, sort_keys=True)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_halves_are_disjoint_and_stratified(share, seed):
    calibration = parts()[1]
    certified = halves(calibration, share, seed)
    for group in (calibration.errors, ~calibration.errors):
        assert certified[group].sum() == round(share * group.sum())
    np.testing.assert_array_equal(certified, halves(calibration, share, seed))
    assert not np.array_equal(certified, halves(calibration, share, seed + 5))


def test_every_calibration_row_is_in_one_half_and_kept_for_one_use():
    calibration, fit = parts()[1], fitted()
    certified = halves(calibration, 0.5, 0)
    np.testing.assert_array_equal(fit.judged.features, calibration.features[~certified])
    np.testing.assert_array_equal(fit.judged.labels, calibration.labels[~certified])
    np.testing.assert_array_equal(fit.errors, calibration.errors[certified])
    for name, method in fit.methods.items():
        np.testing.assert_array_equal(method.certified, method.score.score(calibration.take(certified)))
        assert len(fit.honest[name]) == len(fit.judged)
        assert method.fit_seconds > 0


def test_certification_rows_never_reach_a_method():
    """Other features, logits and labels for them (right and wrong as before): nothing that was learned moves."""
    train, calibration, _, _ = parts()
    certified = halves(calibration, 0.5, 0)
    g = np.random.default_rng(0)
    other = replace(calibration, features=calibration.features.copy(), logits=calibration.logits.copy(),
                    labels=calibration.labels.copy())  # fmt: skip
    n, c = int(certified.sum()), calibration.classes
    other.features[certified] = g.normal(size=(n, other.features.shape[1])) * 50
    predicted = (calibration.predictions[certified] + 1) % c
    other.logits[certified] = g.normal(size=(n, c)) + 9 * np.eye(c)[predicted]
    other.labels[certified] = (predicted + calibration.errors[certified] * g.integers(1, c, n)) % c
    np.testing.assert_array_equal(other.errors, calibration.errors)
    one, two = fitted(), fit_methods(train, other, linear_head(), FitPlan(FAST, show=False))
    for name in FAST:
        assert bytes_of(one.methods[name].score.state()) == bytes_of(two.methods[name].score.state())
        assert bytes_of(one.methods[name].recalibrator.state()) == bytes_of(two.methods[name].recalibrator.state())
        np.testing.assert_array_equal(one.honest[name], two.honest[name])
        assert not np.array_equal(one.methods[name].certified, two.methods[name].certified)
    assert one.choice == two.choice


def test_the_fitting_half_does_reach_them():
    """The control of the test above: the same change of the other half is seen by all that learn from it."""
    train, calibration, _, _ = parts()
    judged = ~halves(calibration, 0.5, 0)
    logits = calibration.logits.copy()
    logits[judged] *= 3
    names = ("temperature", "huq_md", "refitted_both")
    labels = calibration.labels.copy()
    wrong = judged & calibration.errors
    labels[wrong] = (calibration.predictions[wrong] * 2 + 3 - labels[wrong] - calibration.predictions[wrong]) % 3
    two = fit_methods(
        train, Representations.of(calibration.features, logits, labels), None, FitPlan((INCUMBENT, *names), show=False)
    )
    for name in names:
        assert bytes_of(fitted().methods[name].score.state()) != bytes_of(two.methods[name].score.state())


def test_recalibration_is_learned_from_out_of_fold_scores():
    fit = fitted()
    for name, method in fit.methods.items():
        expected = Recalibrator().fit(fit.honest[name], fit.judged.errors)
        assert bytes_of(method.recalibrator.state()) == bytes_of(expected.state())
    in_sample = fit.methods["temperature"].score.score(fit.judged)
    assert not np.array_equal(fit.honest["temperature"], in_sample)
    np.testing.assert_array_equal(fit.honest["md"], fit.methods["md"].score.score(fit.judged))


def honest_scores(seed=3, rows=400):
    """(judged rows with errors, log softmax response): the incumbent finds errors, but not all."""
    g = np.random.default_rng(seed)
    logits = g.normal(size=(rows, 3)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([g.choice(3, p=row) for row in p])
    judged = Representations.of(g.normal(size=(rows, 2)), logits, labels)
    return g, judged, log_error(judged.logits)


def test_choice_keeps_the_incumbent_among_noise():
    g, judged, incumbent = honest_scores()
    spread = incumbent.std()
    noise = {f"noise {i}": g.normal(size=len(judged)) for i in range(5)}
    noise |= {f"blurred {i}": incumbent + 0.3 * spread * g.normal(size=len(judged)) for i in range(15)}
    found = choose({INCUMBENT: incumbent, **noise}, judged)
    assert found.method == INCUMBENT
    assert "None of 20 methods beat softmax response on 400 calibration rows" in found.why
    assert "the nearest is blurred" in found.why


def test_choice_is_rarely_fooled_by_the_luckiest_of_ten():
    """All are equally good: blurred by as much as the incumbent itself is."""
    fooled = 0
    for seed in range(15):
        g, judged, base = honest_scores(seed, 200)
        blurred = {f"m{i}": base + 0.7 * base.std() * g.normal(size=200) for i in range(10)}
        blurred[INCUMBENT] = blurred.pop("m0")
        fooled += choose(blurred, judged).method != INCUMBENT
    assert fooled <= 2  # nominal 2.5 % of 15


def test_choice_takes_a_truly_better_method_and_the_best_of_two():
    g, judged, incumbent = honest_scores()
    spread = incumbent.std()
    noise = {f"noise {i}": g.normal(size=len(judged)) for i in range(10)}
    good, better = incumbent + 0.7 * spread * judged.errors, incumbent + 1.5 * spread * judged.errors
    found = choose({INCUMBENT: incumbent, **noise, "good": good}, judged)
    assert found.method == "good"
    assert "11 tried" in found.why
    assert choose({INCUMBENT: incumbent, "better": better, **noise, "good": good}, judged).method == "better"


def test_choice_needs_the_incumbent():
    _, judged, incumbent = honest_scores()
    with pytest.raises(DubioError, match="softmax_response must be among"):
        choose({"md": incumbent}, judged)
    alone = choose({INCUMBENT: incumbent}, judged)
    assert (alone.method, alone.why.startswith("None of 0 methods")) == (INCUMBENT, True)
    one = choose({INCUMBENT: incumbent, "same": incumbent}, judged)
    assert one.why.startswith("The one other method does not beat softmax response on ")
    with pytest.raises(DubioError, match="softmax_response must be among"):
        fit_methods(None, judged, None, FitPlan(("entropy",), show=False))


def test_a_control_is_never_chosen_but_says_that_the_adapter_can_be_improved():
    g, judged, incumbent = honest_scores()
    spread = incumbent.std()
    control, rival = incumbent + 1.5 * spread * judged.errors, incumbent + 0.7 * spread * judged.errors
    found = choose({INCUMBENT: incumbent, "refitted_both": control, "probe": rival}, judged)
    assert found.method == "probe"
    assert "1 tried" in found.why
    assert "A better head alone (refitted_both) would gain +" in found.why
    found = choose({INCUMBENT: incumbent, "refitted_both": control, "md": g.normal(size=len(judged))}, judged)
    assert found.method == INCUMBENT
    assert "train the adapter longer" in found.why
    weak = {"refitted_both": incumbent + 0.3 * spread * g.normal(size=len(judged))}
    assert "train the adapter" not in choose({INCUMBENT: incumbent, **weak}, judged).why


def test_a_method_that_the_rows_do_not_suit_is_left_out_with_the_reason():
    """No train errors for the balanced AdUE, a class of one train row for the densities: the others are fitted."""
    train, calibration, _, _ = parts()
    labels = train.predictions.copy()  # all right
    alone = np.flatnonzero(labels == 2)[1:]
    kept = np.setdiff1d(np.arange(len(train)), alone)
    train = replace(train, labels=labels).take(kept)
    names = (INCUMBENT, "entropy", "adue_balanced", "rmd", "probe")
    fit = fit_methods(train, calibration, linear_head(), FitPlan(names, show=False))
    assert set(fit.methods) == set(fit.honest) == {INCUMBENT, "entropy", "probe"}
    assert "right and wrong rows" in fit.left_out["adue_balanced"]
    assert set(fit.left_out) == {"adue_balanced", "rmd"}
    assert not any("\n" in why for why in fit.left_out.values())


def test_what_cannot_be_fitted_is_left_out():
    train, calibration, _, _ = parts()
    without_train = fit_methods(None, calibration, linear_head(), FitPlan(show=False))
    assert set(without_train.methods) == {name for name, m in METHODS.items() if "train" not in m.needs}
    assert {"probe", "refitted_calibration", "adue_calibration"} <= set(without_train.methods)
    without_head = fit_methods(train, calibration, None, FitPlan(FAST, show=False))
    assert set(without_head.methods) == set(FAST) - {"adue"}
    assert without_head.left_out == {"adue": "it needs the model's classification head"}
    neither = fit_methods(None, calibration, None, FitPlan((INCUMBENT, "adue"), show=False)).left_out
    assert neither == {"adue": "it needs the training rows; it needs the model's classification head"}
    alone = fit_methods(None, calibration, None, FitPlan((INCUMBENT, "md"), show=False))
    assert (list(alone.methods), alone.choice.method) == ([INCUMBENT], INCUMBENT)


def test_the_same_seed_gives_the_same_fit():
    train, calibration, _, _ = parts()
    names = (INCUMBENT, "probe_both")
    one, two, other = (
        fit_methods(train, calibration, None, FitPlan(names, seed=seed, show=False)) for seed in (4, 4, 5)
    )
    assert one.choice == two.choice
    assert bytes_of(one.methods["probe_both"].score.state()) == bytes_of(two.methods["probe_both"].score.state())
    assert not np.array_equal(one.errors, other.errors) or not np.array_equal(one.judged.logits, other.judged.logits)


def some_errors(wrong, rows=60):
    g = np.random.default_rng(0)
    logits = g.normal(size=(rows, 3))
    labels = (logits.argmax(axis=1) + (np.arange(rows) < wrong)) % 3
    return Representations.of(g.normal(size=(rows, 4)), logits, labels)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(0, "all 60 calibration predictions are right"), (60, "all 60 calibration predictions are wrong"),
     (2, "1 wrong and 29 right rows are too few"), (6, "3 wrong and 27 right rows are too few for 5 folds"),
     (57, "29 wrong and 1 right rows are too few")],
)  # fmt: skip
@pytest.mark.parametrize("methods", [(INCUMBENT,), ("entropy", INCUMBENT, "probe")])
def test_too_few_errors_are_one_line(wrong, message, methods):
    with pytest.raises(DubioError, match=message) as caught:
        fit_methods(None, some_errors(wrong), None, FitPlan(methods, show=False))
    assert "more" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refusals():
    train, calibration, _, _ = parts()
    unlabelled = replace(calibration, labels=None)
    with pytest.raises(DubioError, match="carry no labels"):
        fit_methods(train, unlabelled, None, FitPlan(show=False))
    with pytest.raises(DubioError, match="no method named 'nonsense'"):
        fit_methods(train, calibration, None, FitPlan((INCUMBENT, "nonsense"), show=False))
    for share in (0.0, 1.0):
        with pytest.raises(DubioError, match="certification share"):
            fit_methods(train, calibration, None, FitPlan((INCUMBENT,), share=share, show=False))


@pytest.mark.parametrize(("options", "said"), [
    ({"methods": "entropy"}, r"methods: expected a list of names, got 'entropy'; give \['entropy'\]"),
    ({"methods": []}, "methods: the list is empty"), ({"seed": -1}, "seed: expected 0 or more, got -1"),
])  # fmt: skip
def test_a_plan_that_says_something_else_than_it_seems_to(options, said):
    with pytest.raises(DubioError, match=said):
        FitPlan(**options)
