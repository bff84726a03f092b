"""The verdict in words: what was chosen, whether it helped, what it costs, what it promises, and what was kept."""

from dubio.metrics import Metric
from dubio.metrics.calibration import BINS
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.metrics.miscalibration import AGAINST
from dubio.report.content import ReportContent
from dubio.report.words import interval_of, level_of, named, p_words, percent, size, title_of


def verdict(content: ReportContent) -> list[str]:
    """Paragraphs of plain text; each sentence follows from a figure of the report."""
    makers = (_choice, _control, _ood, _cost, _promise, probability)
    parts = [make(content) for make in makers]
    return [part for part in parts if part]


def _choice(content: ReportContent) -> str:
    auc, wrong = content.find(content.chosen, "error_roc_auc"), int(content.errors.sum())
    facts = f"On {len(content.errors):,} test rows, {wrong:,} of them wrong"
    if auc is None:
        return (
            f"The deciding method is {named(content.chosen)}. {content.why} {facts}, ROC-AUC is undefined: it needs "
            "right and wrong predictions."
        )
    level = f"its error ROC-AUC is {100 * auc.number:.1f} % ({level_of(auc)})"
    if content.chosen == REFERENCE:
        start = f"The deciding method is softmax response. {content.why}"
        return f"{start} {facts}, {level}.{_best(content)}"
    gain = content.find(content.chosen, "error_roc_auc_gain")
    if gain is None:
        return f"The deciding method is {named(content.chosen)}. {content.why} {facts}, {level}."
    test = content.find(content.chosen, "error_roc_auc_gain_p")
    p = "" if test is None else f", {p_words(test.number)}"
    return (
        f"The deciding method is {named(content.chosen)}. {content.why} {facts}, {level}, {100 * gain.number:+.1f} "
        f"percentage points against softmax response (paired, {level_of(gain, '{:+.1f}')}{p}): {_believe(gain)}"
    )


def _believe(gain: Metric) -> str:
    if gain.low is None or gain.high is None:
        return "too few rows for an interval."
    if gain.low == gain.high == 0:
        return "it fell back to softmax response and scores the same."
    if gain.low > 0:
        return "the gain is confirmed on rows that took no part in the choice."
    if gain.high < 0:
        return (
            "on these rows it is worse than softmax response, so the choice does not hold up; prefer softmax response."
        )
    return "the interval contains 0, so these rows do not confirm that it is better."


def _best(content: ReportContent) -> str:
    """With softmax response chosen: the largest gain that test shows, which nothing was chosen by."""
    gains = content.known("error_roc_auc_gain")
    if not gains:
        return ""
    best = max(gains, key=lambda m: m.number)
    if best.number <= 0:
        return " No method is above it on test either."
    return (
        f" The best of {len(gains)} others on test is {title_of(best.method)} with {100 * best.number:+.1f} percentage "
        f"points ({interval_of(best, '{:+.1f}')}); the best of many on test is partly luck and was not used to choose."
    )


def _control(content: ReportContent) -> str:
    if content.control is None or content.control == content.chosen:
        return ""
    gain = content.find(content.control, "error_roc_auc_gain")
    own = content.find(content.chosen, "error_roc_auc_gain")
    if gain is None:
        return ""
    text = (
        f"The control, {title_of(content.control).replace(' (control)', '')}, has no notion of uncertainty and differs "
        f"by {100 * gain.number:+.1f} percentage points ({interval_of(gain, '{:+.1f}')})"
    )
    if content.chosen == REFERENCE:
        return f"{text}: so much can be had by a better classifier." if (gain.low or 0) > 0 else f"{text}."
    if own is None or gain.number <= 0:
        return f"{text}."
    if gain.number >= own.number:
        return f"{text}, no less than the chosen method: a better classifier alone would bring as much."
    return f"{text}: only what the chosen method gains beyond that is more than a better classifier brings."


def _ood(content: ReportContent) -> str:
    """Rows from elsewhere are another question, and mostly another method's."""
    own = content.find(content.chosen, "ood_roc_auc")
    found = [m for m in content.known("ood_roc_auc") if m.method in content.scores]
    if own is None:
        return ""
    best = max(found, key=lambda m: m.number)
    start = f"It tells out-of-domain rows from test rows with a ROC-AUC of {100 * own.number:.1f} %"
    if best.number <= own.number:
        return f"{start}, and no other method does so better."
    return (
        f"{start}; for that question {title_of(best.method)} does best, with {100 * best.number:.1f} % "
        f"({interval_of(best)})."
    )


def _cost(content: ReportContent) -> str:
    cost = next((c for c in content.costs if c.method == content.chosen), None)
    if cost is None:
        return ""
    if not cost.bytes:
        return f"It needs no fitting and adds {cost.ms_per_1000_rows:.2g} ms per 1,000 rows to the forward pass."
    return (
        f"It took {cost.fit_seconds:.2g} s to fit, adds {cost.ms_per_1000_rows:.2g} ms per 1,000 rows to the forward "
        f"pass, and keeps {size(cost.bytes)} on disk."
    )


def _promise(content: ReportContent) -> str:
    threshold, (coverage, risk) = content.threshold, content.realised
    if threshold.threshold is None:
        return f"{threshold.promise} With this budget every row is left to a person."
    if risk is None:
        return f"{threshold.promise} No test row fell under the threshold, so nothing could be checked."
    kept = "the promise was kept" if risk <= threshold.risk else "the budget was exceeded"
    late = (
        ""
        if risk <= threshold.risk
        else f"; a promise at confidence {percent(1 - threshold.delta)} may fail by chance, or these rows differ from "
        "the calibration rows"
    )
    return (
        f"{threshold.promise} On test {percent(coverage)} of the rows are answered and {percent(risk)} of those are "
        f"wrong: {kept}{late}."
    )


def probability(content: ReportContent) -> str:
    """Whether the error probability may be believed, before and after recalibration; empty where it was not tested."""
    after = _calibrated(content, content.chosen, "error_probability_ece", "error_probability_calibration_p")
    before = _calibrated(content, ADAPTER, f"ece_equal_mass_{BINS}", "calibration_p")
    if not after:
        return ""
    start = f"Its error probability: {after}."
    return f"{start} 1 − the largest softmax probability, for comparison: {before}." if before else start


def _calibrated(content: ReportContent, method: str, ece: str, test: str) -> str:
    """`nothing speaks against it (...)` or `off by ... on average (...)`, with the figures; empty without them."""
    found, tested = content.find(method, f"{ece}_debiased"), content.find(method, test)
    if found is None or tested is None:
        return ""
    spread = level_of(found, "{:.3f}", 1)
    if tested.number > AGAINST:
        return (
            f"nothing speaks against it (test of calibration, {p_words(tested.number)}; debiased ECE "
            f"{found.number:.3f}, {spread})"
        )
    return (
        f"off by {found.number:.3f} on average (debiased ECE, {BINS} bins of equal mass, {spread}; test of "
        f"calibration, {p_words(tested.number)})"
    )
