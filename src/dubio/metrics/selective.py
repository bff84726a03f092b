"""Selective prediction: what the error rate becomes when the most uncertain rows are left unanswered.

Rows are answered in ascending order of uncertainty. With N rows, w errors and `E_k` the expected number of errors among
the first k over all orders of tied rows:
    risk_k  = E_k / k at coverage k / N
    AURC    = (1/N) sum_k risk_k                                              (Geifman & El-Yaniv 2017, 2019)
    E-AURC  = AURC - AURC_oracle, the oracle answering every right row first
    PRR     = (AURC_random - AURC) / (AURC_random - AURC_oracle), AURC_random = w/N: 1 is perfect, 0 is chance
    AUGRC   = area under E_k / N by trapezoids = (1 - ROC-AUC) * acc * err + err^2 / 2    (Traub et al. 2024)
The sum over a tie group needs only harmonic numbers, so AURC is exact without a loop. Functions ending in `_of` take
grouped counts of B resamples and return `[B]`, NaN where undefined. Papers: arXiv 1705.08500, 1805.08206, 2407.01032;
PRR: Malinin & Gales 2021 (arXiv 2002.07650).
"""

from typing import Any

import numpy as np

from dubio.arrays import Float64
from dubio.errors import DubioError
from dubio.metrics.ties import Cumulative, Curve, TieGroups, defined, ratio


def risk_coverage_curve(uncertainty: Any, errors: Any) -> Curve:
    """The curve: x = coverage k/N, y = expected risk_k, for k = 1..N."""
    groups = TieGroups.of(uncertainty, errors)
    counts, sizes = groups.cumulate(), groups.sizes
    answered = np.arange(1.0, len(groups) + 1)
    inside = answered - np.repeat(counts.rows_before[0], sizes)
    share = np.repeat(counts.positives[0] / counts.rows[0], sizes)
    wrong = np.repeat(counts.positives_before[0], sizes) + inside * share
    return Curve(answered / len(groups), wrong / answered)


def aurc(uncertainty: Any, errors: Any) -> float:
    """Area under the risk-coverage curve, in [0, 1]; lower is better. Raises DubioError only on bad arrays."""
    return float(aurc_of(TieGroups.of(uncertainty, errors).cumulate())[0])


def e_aurc(uncertainty: Any, errors: Any) -> float:
    """AURC above that of the best possible order of the same predictions; 0 is perfect."""
    return float(e_aurc_of(TieGroups.of(uncertainty, errors).cumulate())[0])


def augrc(uncertainty: Any, errors: Any) -> float:
    """Area under the generalised risk-coverage curve, in [0, 1/2]; lower is better."""
    return float(augrc_of(TieGroups.of(uncertainty, errors).cumulate())[0])


def prr(uncertainty: Any, errors: Any) -> float:
    """Prediction rejection ratio, at most 1; raises DubioError where all rows are right or all are wrong."""
    return defined(prr_of(TieGroups.of(uncertainty, errors).cumulate()), "PRR")


def risk_at_coverage(uncertainty: Any, errors: Any, coverage: float = 0.8) -> float:
    """Expected error rate of the ceil(coverage * N) most certain rows; raises DubioError on coverage outside (0, 1]."""
    if not 0 < coverage <= 1:
        raise DubioError(f"coverage must lie in (0, 1], got {coverage}")
    return float(risk_at_coverage_of(TieGroups.of(uncertainty, errors).cumulate(), coverage)[0])


def coverage_at_risk(uncertainty: Any, errors: Any, risk: float = 0.1) -> float:
    """Largest share of rows that a threshold can answer at an observed error rate of at most `risk`; 0 if none can.

    Tied rows are answered together, as a threshold must. This is a description of these rows, not a promise: see
    `dubio.decisions.threshold`. Raises DubioError if `risk` is outside [0, 1].
    """
    if not 0 <= risk <= 1:
        raise DubioError(f"risk must lie in [0, 1], got {risk}")
    return float(coverage_at_risk_of(TieGroups.of(uncertainty, errors).cumulate(), risk)[0])


def aurc_of(counts: Cumulative) -> Float64:
    """`[B]` AURC: a group of m rows with e errors after n rows with f errors adds e + (f - n e/m)(H_{n+m} - H_n)."""
    harmonic = _harmonic(counts)[(counts.rows_before + counts.rows).astype(np.intp)]
    steps = np.diff(harmonic, axis=1, prepend=0.0)
    rate = counts.positives / np.maximum(counts.rows, 1.0)
    surplus = counts.positives_before - counts.rows_before * rate
    return (counts.total_positives + np.einsum("bg,bg->b", surplus, steps)) / counts.total


def oracle_aurc_of(counts: Cumulative) -> Float64:
    """`[B]` AURC of the order that answers every right row before any wrong one."""
    harmonic, right = _harmonic(counts), counts.total_negatives
    tail = harmonic[counts.total.astype(np.intp)] - harmonic[right.astype(np.intp)]
    return (counts.total_positives - right * tail) / counts.total


def e_aurc_of(counts: Cumulative) -> Float64:
    """`[B]` AURC minus the oracle's; rounding below 0 is cut."""
    return np.maximum(aurc_of(counts) - oracle_aurc_of(counts), 0.0)


def prr_of(counts: Cumulative) -> Float64:
    """`[B]` prediction rejection ratio."""
    chance = counts.total_positives / counts.total
    room = np.where(counts.total_positives * counts.total_negatives > 0, chance - oracle_aurc_of(counts), 0.0)
    return ratio(chance - aurc_of(counts), room)


def augrc_of(counts: Cumulative) -> Float64:
    """`[B]` AUGRC."""
    area = np.einsum("bg,bg->b", counts.rows, counts.positives_before + 0.5 * counts.positives)
    return area / counts.total**2


def risk_at_coverage_of(counts: Cumulative, coverage: float = 0.8) -> Float64:
    """`[B]` expected risk of the ceil(coverage * N) most certain rows."""
    answered = np.maximum(np.ceil(coverage * counts.total - 1e-9), 1.0)
    at = (counts.rows_before < answered[:, None]).sum(axis=1) - 1  # never a group that is empty in the resample
    draw = np.arange(len(at))
    share = counts.positives[draw, at] / np.maximum(counts.rows[draw, at], 1.0)
    wrong = counts.positives_before[draw, at] + (answered - counts.rows_before[draw, at]) * share
    return wrong / answered


def coverage_at_risk_of(counts: Cumulative, risk: float = 0.1) -> Float64:
    """`[B]` largest coverage of whole groups whose observed risk is at most `risk`."""
    answered = counts.rows_before + counts.rows
    kept = counts.positives_before + counts.positives <= risk * answered + 1e-9  # 0.1 * 30 rows allows 3 errors
    return np.where(kept, answered, 0.0).max(axis=1) / counts.total


def _harmonic(counts: Cumulative) -> Float64:
    """Harmonic numbers H_0..H_N up to the largest resample."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, counts.total.max() + 1))])
