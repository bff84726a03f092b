"""What somebody in a hurry has to know, for page and terminal alike: how good, how much can be answered, what to ship.

Each sentence follows from a figure of the report, and none says more than its interval does.
"""

from dataclasses import dataclass

from dubio.artifacts.store import Artifact
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.report.answering import BUDGETS, promises
from dubio.report.content import ReportContent
from dubio.report.shipping import shipping
from dubio.report.words import budget, count, is_control, named, percent, title_of


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
    lines += [Fact("To ship", shipping(content)), Fact("Out of domain", _strange(content))]
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
        f"{int(away.sum()):,} of {count(len(away), 'row')} of another source ({percent(float(away.mean()))}) would be "
        "answered; no promise covers them."
    )
