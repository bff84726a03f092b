"""How well a score ranks positives (errors, or out-of-distribution rows) above negatives.

With `u` a positive's score and `v` a negative's:
    ROC-AUC   = P(u > v) + P(u = v) / 2
    PR-AUC    = sum over thresholds t, descending, of (recall_t - recall_before) * precision_t (average precision)
    FPR@TPR   = share of negatives ranked above the positive at which recall reaches the given TPR
ROC-AUC and FPR@TPR are the mean over all orders of tied rows; average precision takes tied rows in one step, which is
scikit-learn's convention. Functions ending in `_of` take grouped counts of B resamples and return `[B]`, NaN where
undefined. Sources: Fawcett 2006; Hendrycks & Gimpel 2017 (arXiv 1610.02136); Liang et al. 2018 (arXiv 1706.02690).
"""

from typing import Any

import numpy as np

from dubio.arrays import Float64
from dubio.errors import DubioError
from dubio.metrics.ties import Cumulative, Curve, TieGroups, defined, ratio


def roc_auc(scores: Any, positives: Any) -> float:
    """ROC-AUC in [0, 1] of scores `[N]` against positives `[N]` (0/1); raises DubioError if one kind is missing."""
    return defined(roc_auc_of(TieGroups.of(scores, positives).cumulate()), "ROC-AUC")


def pr_auc(scores: Any, positives: Any) -> float:
    """Average precision in [0, 1]; chance level is the share of positives. Raises DubioError if one kind is missing."""
    return defined(pr_auc_of(TieGroups.of(scores, positives).cumulate()), "PR-AUC")


def fpr_at_tpr(scores: Any, positives: Any, tpr: float = 0.95) -> float:
    """False positive rate where the true positive rate first reaches `tpr`, in [0, 1]; lower is better.

    Raises DubioError if one kind is missing or `tpr` is outside (0, 1].
    """
    if not 0 < tpr <= 1:
        raise DubioError(f"tpr must lie in (0, 1], got {tpr}")
    return defined(fpr_at_tpr_of(TieGroups.of(scores, positives).cumulate(), tpr), "FPR at TPR")


def roc_curve(scores: Any, positives: Any) -> Curve:
    """The ROC curve: x = false positive rate, y = true positive rate, one point a distinct score.

    It runs from (0, 0) to (1, 1). Raises DubioError if one kind is missing.
    """
    counts = TieGroups.of(scores, positives).cumulate()
    if not 0 < counts.total_positives[0] < counts.total[0]:
        raise DubioError("a ROC curve needs both positive (wrong) and negative (right) rows")
    above = (counts.total_positives[:, None] - counts.positives_before)[0][::-1]
    rows_above = (counts.total[:, None] - counts.rows_before)[0][::-1]
    x = np.concatenate([[0.0], (rows_above - above) / counts.total_negatives[0]])
    return Curve(x, np.concatenate([[0.0], above / counts.total_positives[0]]))


def roc_auc_of(counts: Cumulative) -> Float64:
    """`[B]` ROC-AUC of each resample."""
    negatives_below = counts.rows_before - counts.positives_before + 0.5 * (counts.rows - counts.positives)
    wins = np.einsum("bg,bg->b", counts.positives, negatives_below)
    return ratio(wins, counts.total_positives * counts.total_negatives)


def pr_auc_of(counts: Cumulative) -> Float64:
    """`[B]` average precision of each resample."""
    hits = counts.total_positives[:, None] - counts.positives_before
    flagged = np.maximum(counts.total[:, None] - counts.rows_before, 1.0)  # 0 only past the last occupied group
    area = np.einsum("bg,bg->b", counts.positives, hits / flagged)
    return np.where(counts.total_negatives > 0, ratio(area, counts.total_positives), np.nan)


def fpr_at_tpr_of(counts: Cumulative, tpr: float = 0.95) -> Float64:
    """`[B]` false positive rate at the true positive rate `tpr`.

    Among p positives and n negatives of one score in random order, j n / (p + 1) negatives precede the j-th positive.
    """
    wrong = counts.total_positives
    needed = np.ceil(tpr * wrong - 1e-9)  # 0.95 * 20 must be 19 whatever the rounding
    at = (counts.positives_before <= (wrong - needed)[:, None]).sum(axis=1) - 1
    draw = np.arange(len(at))
    positives, rows = counts.positives[draw, at], counts.rows[draw, at]
    positives_above = wrong - counts.positives_before[draw, at] - positives
    negatives_above = counts.total - counts.rows_before[draw, at] - rows - positives_above
    passed = negatives_above + (needed - positives_above) * (rows - positives) / (positives + 1)
    return np.where(wrong > 0, ratio(passed, counts.total_negatives), np.nan)
