"""Decisions on arrays: uncertainty to error probability, and thresholds that keep an error budget."""

from dubio.decisions.recalibration import Recalibrator
from dubio.decisions.threshold import RiskThreshold, risk_threshold

__all__ = ["Recalibrator", "RiskThreshold", "risk_threshold"]
