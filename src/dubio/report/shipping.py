"""What to ship and at what cost: whether a refitted head, or a posterior's samples, make a better classifier.

One is called better only where each value lies outside of the other's 95 % interval.
"""

from dubio.metrics import Metric
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.report.content import ReportContent
from dubio.report.words import is_control, percent, title_of
from dubio.scores.registry import is_method

HEADS = "heads"  # the posterior that is new heads alone


def shipping(content: ReportContent) -> str:
    """What to ship and at what cost: whether a refitted head, or a posterior's passes, make a better classifier."""
    own = content.find(ADAPTER, "accuracy")
    systems = {m.method: m for m in content.known("system_accuracy") if m.method != content.model.get("mean_of")}
    if own is None or not systems:
        return ""
    heads = {name: m for name, m in systems.items() if is_control(name)}
    drawn = {name: m for name, m in systems.items() if not is_method(name)}
    parts, best = list[str](), own
    if heads:
        head = max(heads.values(), key=lambda m: m.number)
        parts.append(_head(content, head, own))
        best = head if _clearly(head, own) else own
    if drawn:
        parts.append(_posterior(content, max(drawn.values(), key=lambda m: m.number), best))
    return " ".join(parts)


def _head(content: ReportContent, head: Metric, own: Metric) -> str:
    cost = content.cost(head.method)
    price = "" if cost is None else f", fitted in {cost.fit_seconds:.2g} s, no further pass"
    what = f"a refitted head alone ({head.method}: a logistic regression on the adapter's features{price})"
    if not _clearly(head, own):
        return f"Ship the adapter as it is: {what} is right on {percent(head.number)}, which is not clearly more."
    ways = "train the adapter longer"
    if content.model.get("mean_of") != HEADS:
        ways += (
            f", or ship new heads on its features: `dubio posterior ADAPTER {HEADS} --rows HELD_OUT.csv` on rows of "
            f"neither calibration nor test, then `dubio fit` with `--predictions {HEADS}`"
        )
    return (
        f"{what[0].upper()}{what[1:]} takes the classifier from {100 * own.number:.1f} to {percent(head.number)} "
        f"right. Improve the classifier before its uncertainty: {ways}."
    )


def _posterior(content: ReportContent, drawn: Metric, best: Metric) -> str:
    cost, name = content.cost(drawn.method), title_of(drawn.method).replace(": mean of its samples", "")
    price = "" if cost is None else f"; {cost.samples} samples, {cost.ms_per_1000_rows:,.0f} ms more per 1,000 rows"
    start = f"{name} ({drawn.method}{price}) is right on {percent(drawn.number)}"
    judged = content.model.get("mean_of", ADAPTER)
    whose = {ADAPTER: "the adapter"}.get(judged, judged) if best.method == ADAPTER else "the refitted head"
    against, ships = f"{whose} with {percent(best.number)}", f"`dubio fit` with `--predictions {drawn.method}` ships it"
    if _clearly(drawn, best):
        return f"{start}, clearly more than {against}: worth its cost where accuracy counts; {ships}."
    theirs = content.find(REFERENCE, "aurc") if best.method == ADAPTER else content.find(best.method, "system_aurc")
    mine = content.find(drawn.method, "system_aurc")
    if mine is not None and theirs is not None and _clearly(theirs, mine):
        return (
            f"{start}, not clearly more than {against}, but fewer of its surest rows are wrong (AURC "
            f"{mine.number:.4f}, not {theirs.number:.4f}): worth its cost where rows can be left to a person; {ships}."
        )
    return f"{start}, not clearly more than {against}, and its surest rows are no better: not worth its cost."


def _clearly(one: Metric, other: Metric) -> bool:
    """Whether one value is higher than another, each outside of the other's 95 % interval."""
    if one.low is None or other.high is None:
        return False
    return one.low > other.number and one.number > other.high
