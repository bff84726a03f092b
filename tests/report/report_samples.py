"""Contents of reports from real scores of planted data, with texts that try to break out of the page."""

from dataclasses import replace

import numpy as np

from dubio.artifacts.manifest import CalibrationFigure, SplitFacts
from dubio.artifacts.store import Artifact
from dubio.containers import Scores
from dubio.decisions.recalibration import Recalibrator
from dubio.decisions.threshold import risk_threshold
from dubio.fitted import Choice, FittedScore
from dubio.metrics import Bootstrap, correlation, evaluate_ood, evaluate_scores, evaluate_system
from dubio.report.answering import dial, promises
from dubio.report.content import Cost, ReportContent
from dubio.scores.registry import get_method
from synthetic import planted

METHODS = ("softmax_response", "entropy", "margin", "energy", "md", "knn", "probe_guarded", "refitted_both")
EVIL = "<script>alert('x')</script> & \x00 <img src=http://example.org/x.png> " + "so long " * 60


def artifact(chosen="probe_guarded"):
    train, head = planted(rows=700, seed=1)
    judged, kept = planted(rows=700, seed=2)[0], planted(rows=900, seed=3)[0]
    methods = {}
    for name in METHODS:
        score = get_method(name).build(head=head).fit(train, judged)
        recalibrator = Recalibrator().fit(score.out_of_fold(train, judged), judged.errors)
        methods[name] = FittedScore(name, score, recalibrator, score.score(kept), fit_seconds=0.25)
    scores = [Scores.of(name, methods[name].score.score(kept)) for name in METHODS]
    found = evaluate_scores("calibration", scores, kept.logits, kept.known_labels, bootstrap=Bootstrap(draws=40))
    return Artifact(
        methods=methods,
        choice=Choice(method=chosen, why="Because it was best on 700 calibration rows."),
        errors=kept.errors,
        model={"adapter": "tiny|adapter", "base": "bert", "precision": "float32", "max_length": 128},
        labels=("negative", "neutral", "<b>positive</b>"),
        splits={"train": SplitFacts(rows=700, duplicates=3, sha256="a" * 64),
                "calibration": SplitFacts(rows=1600, duplicates=0, sha256="b" * 64)},
        hashes={},
        fingerprint=np.zeros((8, 3), dtype=np.float32),
        calibration=tuple(CalibrationFigure(method=m.method, metric=m.metric, value=m.value, low=m.low, high=m.high)
                          for m in found),
    )  # fmt: skip


def content(fitted, risk=0.2):
    """A full report: out-of-domain rows, disagreement, a system, and a promise that can be kept."""
    test = planted(rows=1500, seed=4)[0]
    strange = planted(rows=400, seed=5, spread=4.0)[0]
    away = replace(strange, features=strange.features * 2 + 1)
    draws = Bootstrap(draws=40)

    def all_scores(rows):
        out = {}
        for name, method in fitted.methods.items():
            uncertainty = method.score.score(rows)
            out[name] = Scores.of(name, uncertainty, method.recalibrator.predict(uncertainty))
        return out

    scores, ood = all_scores(test), all_scores(away)
    metrics = evaluate_scores("test", list(scores.values()), test.logits, test.known_labels, bootstrap=draws)
    refitted = np.exp(fitted.methods["refitted_both"].score.log_probabilities(test))
    metrics += evaluate_system(
        "test", "refitted_both", refitted, test.known_labels, 1 - refitted.max(1), bootstrap=draws
    )
    metrics += evaluate_ood(list(scores.values()), list(ood.values()), "ood", bootstrap=draws)
    doubt = np.random.default_rng(0).random(len(test))
    metrics += correlation("test", list(scores.values()), doubt, "spearman_disagreement", bootstrap=draws)
    chosen = fitted.choice.method
    promised = risk_threshold(fitted.chosen.certified, fitted.errors, risk=risk)
    answered = promised.answers(scores[chosen].uncertainty)
    realised = (float(answered.mean()), float(test.errors[answered].mean()) if answered.any() else None)
    names = np.array(fitted.labels)
    return ReportContent(
        title="tiny <adapter> on test.csv", model={k: str(v) for k, v in fitted.model.items()},
        splits={**fitted.splits, "test": SplitFacts(rows=1500, duplicates=1, sha256="c" * 64, truncated=1234)},
        metrics=metrics, errors=test.errors, scores=scores, ood=ood,
        before=np.exp(scores["softmax_response"].uncertainty),
        texts=[f"{EVIL} #{i}" for i in range(len(test))], predicted=list(names[test.predictions]),
        labels=list(names[test.known_labels]), chosen=chosen, why=fitted.choice.why, threshold=promised,
        realised=realised, costs=[Cost(name, 0.25, 1.5, 2048) for name in fitted.methods],
        budgets=promises(fitted, 0.1, dial(risk, float(test.errors.mean()))),
        ood_texts=[f"strange {EVIL} #{i}" for i in range(len(away))],
    )  # fmt: skip
