"""The verbs on arrays: fit, evaluate, score, promise. They need neither a model nor its libraries.

Wrap arrays by `Representations.of(features, logits, labels)`; `dubio.extract` makes them of a model and texts.
"""

from collections.abc import Sequence
from typing import Any

from dubio.containers import Representations, Scores, check_representations
from dubio.errors import DubioError
from dubio.fitted import Fitted
from dubio.workflow.evaluation import Evaluation, check_fitted, check_predictions, evaluate, promise
from dubio.workflow.fitting import Fit, FitPlan, fit_methods

__all__ = ["Evaluation", "evaluate", "fit", "promise", "score"]


def fit(
    train: Representations | None, calibration: Representations, head: Any = None, *,
    methods: Sequence[str] | None = None, share: float = 0.5, seed: int = 0, show: bool = False,
) -> Fit:  # fmt: skip
    """Fits every method that its inputs allow (or the named ones), recalibrates each, and chooses one.

    head: the classification head, a torch module (features -> logits) such as `model.head`; AdUE needs it.
    share: of the calibration rows, kept aside for thresholds with a guarantee. What could not be fitted, and why, is
    in `left_out` of the result. Raises DubioError on too few errors in calibration, missing labels, an unknown method,
    or methods without softmax_response, which the others have to beat.
    """
    given = [("train", train)] if train is not None else []
    for name, table in [*given, ("calibration", calibration)]:
        check_representations(table, name)
    return fit_methods(train, calibration, head, FitPlan(methods, share, seed, show))


def score(fitted: Fitted, rows: Representations, method: str | None = None) -> Scores:
    """Uncertainty and error probability `[N]` by the chosen method, or by the named one.

    Raises DubioError where that method was not fitted.
    """
    check_fitted(fitted)
    check_representations(rows, "rows")
    name = method or fitted.choice.method
    if name not in fitted.methods:
        raise DubioError(f"{name!r} was not fitted; there are: {', '.join(fitted.methods)}")
    check_predictions(fitted, rows)
    chosen = fitted.methods[name]
    uncertainty = chosen.score.score(rows)
    return Scores.of(name, uncertainty, chosen.recalibrator.predict(uncertainty))
