"""What somebody in a hurry has to know, for page and terminal alike: how good, how much can be answered, what to ship.

Each sentence follows from a figure of the report, and none says more than its interval does.
"""

from dataclasses import dataclass

from dubio.artifacts.store import Artifact
from dubio.metrics import Metric
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.report.answering import BUDGETS, promises
from dubio.report.content import ReportContent
from dubio.report.words import budget, count, is_control, named, percent, title_of
from dubio.scores.registry import is_method


@dataclass(frozen=True)
class Fact:
    """What a sentence is about, in a word or two, and the sentence."""

    about: str
    text: str


def lead(content: ReportContent) -> str:
    """The whole report in one or two sentences that somebody may act on."""
    rows, found = len(content.errors), content.answer
    if not rows:
        return "There are no test rows, so nothing is measured."
    start = f"{percent(1 - content.errors.mean())} of the predictions are right."
    if found.risk is None:
        return f"{start} {found.outcome}"
    return (
        f"{start} Answer the surest {percent(found.coverage)} and {percent(found.risk)} of those are wrong; the other "
        f"{percent(1 - found.coverage)} go to a person."
    )


def facts(content: ReportContent) -> list[Fact]:
    """The lines of the first screen, and of the terminal."""
    lines = [Fact("Right", _accuracy(content)), Fact("Promise", _kept(content)), Fact("Decided by", _method(content))]
    lines += [Fact("To ship", shipping(content)), Fact("Watch out", _strange(content))]
    return [line for line in lines if line.text]


def console_lines(content: ReportContent) -> list[str]:
    """The same for the terminal: what each budget answers, the deciding method, what to ship."""
    if not len(content.errors):
        return []
    listed = {*BUDGETS, content.threshold.risk}
    lines = ["wrong at most   answered on test   wrong of those"]
    for found in content.answers:
        if found.budget in listed:
            share = percent(found.coverage) if found.promised else "no promise"
            wrong = "–" if found.risk is None else percent(found.risk)
            lines.append(f"{budget(found.budget):>13}   {share:>16}   {wrong:>14}")
    return lines + [f"{fact.about}: {fact.text}" for fact in facts(content) if fact.about not in ("Right", "Promise")]


def fit_lines(artifact: Artifact, delta: float = 0.1) -> list[str]:
    """The verdict of a fit, before any test row: the adapter, the method, what can be promised, the refitted head."""
    found = {(f.method, f.metric): f for f in artifact.calibration}
    accuracy, lines = found.get((ADAPTER, "accuracy")), list[str]()
    whose = "The adapter" if artifact.mean_of is None else named(artifact.mean_of)
    if accuracy is not None and accuracy.value is not None:
        lines.append(f"{whose} is right on {percent(accuracy.value)} of the calibration rows that were fitted on.")
    lines.append(f"The deciding method is {named(artifact.choice.method)}.")
    kept = [
        f"{budget(t.risk)} wrong: {'none' if t.threshold is None else f'{percent(t.coverage)} answered'}"
        for t in promises(artifact, delta, BUDGETS)
    ]
    lines.append(f"What can be promised at confidence {budget(1 - delta)}, by error rate: {'; '.join(kept)}.")
    gains = [(f.low, name) for (name, metric), f in found.items() if metric == "error_roc_auc_gain" and f.low]
    better = max((g for g in gains if is_control(g[1]) and g[0] > 0), default=None)
    if better is not None:
        lines.append(
            f"A refitted head ({better[1]}) finds the errors better than the adapter's own probabilities do, so the "
            "classifier itself can be improved; `dubio evaluate` measures by how much."
        )
    return lines


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
    if _clearly(head, own):
        return (
            f"{what[0].upper()}{what[1:]} takes the classifier from {100 * own.number:.1f} to {percent(head.number)} "
            f"right. That is worth more than any order of its errors: train the adapter longer, or ship new heads on "
            f"its features: `dubio posterior ADAPTER heads --rows HELD_OUT.csv`, then `dubio fit` with "
            "`--predictions heads`."
        )
    return f"Ship the adapter as it is: {what} is right on {percent(head.number)}, which is not clearly more."


def _posterior(content: ReportContent, drawn: Metric, best: Metric) -> str:
    cost, name = content.cost(drawn.method), title_of(drawn.method).replace(": mean of its samples", "")
    price = "" if cost is None else f"; {cost.samples} samples, {cost.ms_per_1000_rows:,.0f} ms more per 1,000 rows"
    start = f"{name} ({drawn.method}{price}) is right on {percent(drawn.number)}"
    against = f"{'the adapter' if best.method == ADAPTER else 'the refitted head'} with {percent(best.number)}"
    if _clearly(drawn, best):
        return (
            f"{start}, clearly more than {against}: worth its cost where accuracy counts; `dubio fit` with "
            f"`--predictions {drawn.method}` ships it."
        )
    return f"{start}, not clearly more than {against}: not worth its cost for accuracy alone."


def _clearly(one: Metric, other: Metric) -> bool:
    """Whether one accuracy is higher than another, each outside of the other's 95 % interval."""
    if one.low is None or other.high is None:
        return False
    return one.low > other.number and one.number > other.high


def _accuracy(content: ReportContent) -> str:
    rows, wrong = len(content.errors), int(content.errors.sum())
    judged = content.model.get("mean_of")
    whose = "The adapter" if judged is None else title_of(judged)
    share = f" ({percent(1 - wrong / rows)})" if rows else ""
    return f"{whose} is right on {rows - wrong:,} of {count(rows, 'test row')}{share}."


def _kept(content: ReportContent) -> str:
    found = content.answer
    if not found.promised:
        words = (
            f"At most {budget(found.budget)} wrong cannot be promised: {found.missing}. Every row is left to a person."
        )
        looser = next((a for a in content.answers if a.promised and a.budget > found.budget), None)
        more = (
            "" if looser is None else f" The strictest budget above it that can be promised is {budget(looser.budget)}"
        )
        return words if looser is None else f"{words}{more}; it answers {percent(looser.coverage)} of the test rows."
    start = f"At most {budget(found.budget)} of the answered rows are wrong, with confidence"
    start += f" {budget(1 - content.threshold.delta)}."
    if found.risk is None:
        return f"{start} No test row falls under the threshold, so nothing could be checked."
    words = f"{start} On test {found.wrong:,} of {found.answered:,} are ({percent(found.risk)})"
    if found.risk <= found.budget:
        return f"{words}: kept."
    return f"{words}: more than the budget, by luck, or because they differ from the calibration rows."


def _method(content: ReportContent) -> str:
    if content.chosen == REFERENCE:
        return f"{named(REFERENCE)}: 1 minus the largest probability. No other method beat it on calibration rows."
    gain = content.find(content.chosen, "error_roc_auc_gain")
    words = f"{named(content.chosen)}, chosen on calibration rows"
    if gain is None or gain.low is None or gain.high is None:
        return f"{words}."
    if gain.low > 0:
        return f"{words}; on test it finds the wrong rows better than the adapter's own probabilities do."
    if gain.high < 0:
        return f"{words}; on test it is worse than the adapter's own probabilities: prefer {named(REFERENCE)}."
    return f"{words}; on test it is not clearly better than the adapter's own probabilities."


def _strange(content: ReportContent) -> str:
    if content.chosen not in content.ood or not len(content.ood[content.chosen]):
        return ""
    away = content.threshold.answers(content.ood[content.chosen].uncertainty)
    return (
        f"{int(away.sum()):,} of {count(len(away), 'out-of-domain row')} ({percent(float(away.mean()))}) would be "
        "answered; no promise covers them."
    )
