"""How much one more row would move a metric: its influence, from which standard errors come without resampling.

For a metric T of N rows, IF(u, e) is N times the change of T when a row of uncertainty u, wrong (e = 1) or right
(e = 0), joins. It has mean 0 over the rows, and var(T) = mean(IF^2) / N. With F the share of rows below u (midway in
ties), P1 the share that are wrong and below, pi the error rate, S(u) = sum over wrong rows j >= u of 1 / rank_j:
    ROC-AUC     wrong: (share of right rows below - T) / pi          right: (share of wrong rows above - T) / (1 - pi)
    AURC        e h(u) - T - S(u) + pi, h(u) = sum of 1 / k over ranks k from that of u to N
    AUGRC       P1(u) + e (1 - F(u)) - 2 T
    PR-AUC      [e (Pi(u) - T) + sum over wrong rows j <= u of (e - Pi_j) / above_j] / pi, Pi the precision at u
    mean loss   loss - T
E-AURC, PRR: by the chain rule from AURC and pi, with the oracle's AURC pi + (1 - pi) log(1 - pi).
Both values of e are computed for every row: what the other outcome would have done says what few errors leave open.
Sources: Hampel 1974; DeLong et al. 1988 (the influence of the ROC-AUC); Efron & Tibshirani 1993, chapter 21.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dubio.arrays import Bool, Float64, Int64
from dubio.metrics.ties import Cumulative, TieGroups


@dataclass(frozen=True)
class Influence:
    """Of a metric on N rows: its value, and how each row's place moves it were the row wrong `[N]`, or right `[N]`."""

    value: float
    wrong: Float64
    right: Float64

    def minus(self, other: "Influence") -> "Influence":
        """Of the difference of two metrics of the same rows."""
        return Influence(self.value - other.value, self.wrong - other.wrong, self.right - other.right)

    def own(self, errors: Bool) -> Float64:
        """`[N]` of the rows as they are."""
        return np.where(errors, self.wrong, self.right)


@dataclass(frozen=True)
class Ranked:
    """Rows `[N]` in tie groups `[G]`, and what stands below each group."""

    counts: Cumulative
    of_row: Int64
    pi: float

    @classmethod
    def of(cls, groups: TieGroups) -> "Ranked":
        """From rows that were sorted by uncertainty, errors as positives."""
        of_row = np.empty(len(groups), dtype=np.int64)
        of_row[groups.order] = np.repeat(np.arange(len(groups.starts)), groups.sizes)
        return cls(groups.cumulate(), of_row, float(groups.positive.mean()))

    def at_rows(self, value: float, wrong: Float64, right: Float64) -> Influence:
        """From values of groups `[G]` to those of rows."""
        return Influence(value, wrong[self.of_row], right[self.of_row])


def of_roc_auc(ranked: Ranked) -> Influence:
    """Of the ROC-AUC; both kinds of rows must be there."""
    c = ranked.counts
    wrong, right = c.positives[0], c.rows[0] - c.positives[0]
    wrong_below, right_below = c.positives_before[0], c.rows_before[0] - c.positives_before[0]
    errors, others = float(c.total_positives[0]), float(c.total_negatives[0])
    beaten = (right_below + right / 2) / others
    beating = 1 - (wrong_below + wrong / 2) / errors
    value = float(wrong @ beaten / errors)
    return ranked.at_rows(value, (beaten - value) / ranked.pi, (beating - value) / (1 - ranked.pi))


def of_pr_auc(ranked: Ranked) -> Influence:
    """Of the average precision; both kinds of rows must be there."""
    c = ranked.counts
    wrong, above = c.positives[0], c.total[0] - c.rows_before[0]
    precision = (c.total_positives[0] - c.positives_before[0]) / above
    value = float(wrong @ precision / c.total_positives[0])
    flagged, lost = np.cumsum(wrong / above), np.cumsum(wrong * precision / above)
    return ranked.at_rows(value, (precision - value + flagged - lost) / ranked.pi, -lost / ranked.pi)


def of_aurc(ranked: Ranked) -> Influence:
    """Of the AURC."""
    c = ranked.counts
    rows, before = c.rows[0], c.rows_before[0]
    total = int(c.total[0])
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, total + 1))])
    start, end = before.astype(np.intp), (before + rows).astype(np.intp)
    inside = ((end * harmonic[end] - end) - (start * harmonic[start] - start)) / rows  # mean H_{k-1} of its ranks k
    hardness = harmonic[total] - inside
    share = c.positives[0] / rows
    steps = share * (harmonic[end] - harmonic[start])
    above = np.cumsum(steps[::-1])[::-1] - steps
    value = float(c.positives[0] @ hardness / total)
    right = ranked.pi - value - above - share * (harmonic[end] - inside)
    return ranked.at_rows(value, right + hardness, right)


def of_augrc(ranked: Ranked) -> Influence:
    """Of the AUGRC."""
    c = ranked.counts
    below = (c.positives_before[0] + c.positives[0] / 2) / c.total[0]
    above = 1 - (c.rows_before[0] + c.rows[0] / 2) / c.total[0]
    value = float(c.positives[0] @ above / c.total[0])
    return ranked.at_rows(value, below + above - 2 * value, below - 2 * value)


def of_e_aurc(ranked: Ranked) -> Influence:
    """Of the AURC above the oracle's; both kinds of rows must be there."""
    found, (oracle, slope), pi = of_aurc(ranked), _oracle(ranked), ranked.pi
    return Influence(found.value - oracle, found.wrong - slope * (1 - pi), found.right + slope * pi)


def of_prr(ranked: Ranked) -> Influence:
    """Of the PRR = 1 - E-AURC / (pi - oracle); both kinds of rows must be there."""
    excess, (oracle, slope), pi = of_e_aurc(ranked), _oracle(ranked), ranked.pi
    room = pi - oracle
    ratio, drift = excess.value / room, (1 - slope) * excess.value / room
    return Influence(
        1 - ratio, -(excess.wrong - drift * (1 - pi)) / room, -(excess.right + drift * pi) / room
    )  # fmt: skip


def worst_prr(ranked: Ranked) -> float:
    """The PRR where every wrong row is ranked below every right one: no order of these rows has a smaller one."""
    rows, wrong, (oracle, _) = int(ranked.counts.total[0]), int(ranked.counts.total_positives[0]), _oracle(ranked)
    aurc = wrong * (1 + float((1.0 / np.arange(wrong + 1.0, rows + 1)).sum())) / rows
    return 1 - (aurc - oracle) / (ranked.pi - oracle)


def of_mean(loss: Float64, errors: Bool) -> Influence:
    """Of a mean loss `[N]`; the loss of the other outcome is that of rows that had it, in root mean square."""
    own = loss - loss.mean()
    kinds = (np.where(errors == kind, own, _size(own[errors == kind])) for kind in (True, False))
    return Influence(float(loss.mean()), *kinds)


SMOOTH: dict[str, Callable[[Ranked], Influence]] = {
    "error_roc_auc": of_roc_auc,
    "error_pr_auc": of_pr_auc,
    "aurc": of_aurc,
    "e_aurc": of_e_aurc,
    "augrc": of_augrc,
    "prr": of_prr,
}


def negated(influence: Influence) -> Influence:
    """Of 1 - T."""
    return replace(influence, value=1 - influence.value, wrong=-influence.wrong, right=-influence.right)


def _oracle(ranked: Ranked) -> tuple[float, float]:
    """The oracle's AURC on these rows, and its slope in the error rate."""
    rows, right = int(ranked.counts.total[0]), int(ranked.counts.total_negatives[0])
    tail = float((1.0 / np.arange(right + 1.0, rows + 1)).sum())
    return (rows - right - right * tail) / rows, -float(np.log(1 - ranked.pi))


def _size(values: Float64) -> float:
    return float(np.sqrt((values**2).mean())) if len(values) else 0.0
