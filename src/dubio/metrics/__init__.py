"""Metrics on arrays: error detection, selective prediction, calibration, comparison; exact under ties."""

from dubio.metrics.bootstrap import Bootstrap, Resampled, resample
from dubio.metrics.calibration import (
    ReliabilityBins,
    accuracy,
    brier,
    ece,
    error_probability_brier,
    error_probability_ece,
    nll,
    reliability_bins,
)
from dubio.metrics.correlation import spearman
from dubio.metrics.delong import DeLong, delong_test
from dubio.metrics.evaluation import Metric, correlation, evaluate_ood, evaluate_scores, evaluate_system
from dubio.metrics.ranking import fpr_at_tpr, pr_auc, roc_auc, roc_curve
from dubio.metrics.selective import (
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    prr,
    risk_at_coverage,
    risk_coverage_curve,
)
from dubio.metrics.ties import Curve, tie_share

__all__ = [
    "Bootstrap",
    "Curve",
    "DeLong",
    "Metric",
    "ReliabilityBins",
    "Resampled",
    "accuracy",
    "augrc",
    "aurc",
    "brier",
    "correlation",
    "coverage_at_risk",
    "delong_test",
    "e_aurc",
    "ece",
    "error_probability_brier",
    "error_probability_ece",
    "evaluate_ood",
    "evaluate_scores",
    "evaluate_system",
    "fpr_at_tpr",
    "nll",
    "pr_auc",
    "prr",
    "reliability_bins",
    "resample",
    "risk_at_coverage",
    "risk_coverage_curve",
    "roc_auc",
    "roc_curve",
    "spearman",
    "tie_share",
]
