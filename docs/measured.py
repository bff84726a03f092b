"""Writes docs/findings.md: the prose of docs/findings.md.in with its `{{name}}` replaced by tables from results/.

So no figure of a table is typed by hand; a test compares the page with what the results give.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
SYSTEMS = (("accuracy", "accuracy", 100, 1), ("nll", "NLL", 1, 3), ("ece_equal_width_15", "ECE", 100, 1),
           ("brier", "Brier", 1, 3), ("error_roc_auc", "error ROC-AUC", 100, 1), ("aurc", "AURC", 1, 3))  # fmt: skip
SETS = ("sst2", "cola", "rte", "reviews", "domains", "clinc150")


def findings(grids: Mapping[str, Callable[[], str]]) -> str:
    """The page. grids: name -> what makes a table of the grids."""
    text = (ROOT / "docs" / "findings.md.in").read_text(encoding="utf-8")
    made = {
        "posteriors": lambda: posteriors("minilm"), "posteriors_smollm2": lambda: posteriors("smollm2"),
        "clinc": clinc, "stages": stages, "stack_gpu": stack_gpu, "letters": letters,
        "recompute": recompute,
    }  # fmt: skip
    made |= grids
    return re.sub(r"\{\{(\w+)\}\}", lambda found: made[found[1]](), text)


def posteriors(model: str) -> str:
    """A table a set, from the cells of benchmarks/posteriors.py."""
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted((RESULTS / f"posteriors_{model}").glob("*.json")):
        for row in read(path):
            cells.setdefault(path.stem.partition("-")[0], {}).setdefault(row["method"], []).append(row)
    parts: list[str] = []
    for name, methods in sorted(cells.items(), key=lambda item: (*SETS, item[0]).index(item[0])):
        rows = [
            (method, str(len(found)),
             *(spread([row[key] for row in found], factor, digits) for key, _, factor, digits in SYSTEMS),
             f"{found[0]['stored']:,}", f"{mean(found, 'made_seconds'):.0f}", f"{mean(found, 'predict_over_one'):.1f}")
            for method, found in methods.items()
        ]  # fmt: skip
        header = (
            "system",
            "seeds",
            *(title for _, title, _, _ in SYSTEMS),
            "numbers stored",
            "made in s",
            "passes cost",
        )
        parts += [f"**{name}**", "\n".join(table(header, rows))]
    return "\n\n".join(parts)


def clinc() -> str:
    """What each score tells, from benchmarks/clinc.py."""
    found = read(RESULTS / "clinc_minilm.json")["table"]
    columns = (("ood_roc_auc", 100, 1), ("error_roc_auc", 100, 1), ("spearman_with_errors", 1, 3))
    rows = [
        (system, score.replace("_", " "), *(pair(values[c], factor, digits) for c, factor, digits in columns))
        for system, scores in found.items()
        for score, values in scores.items()
        if isinstance(values, dict) and "ood_roc_auc" in values
    ]
    header = ("system", "score", "OOD ROC-AUC", "error ROC-AUC", "Spearman with errors")
    variance = [
        (system, *(f"{scores['variance'][k][0]:.2g}" for k in ("in", "out", "right", "wrong")),
         *(pair(scores["variance"][k], 1, 1) for k in ("amplification", "amplification_of_medians")))
        for system, scores in found.items() if "variance" in scores
    ]  # fmt: skip
    second = ("system", "variance in scope", "out of scope", "right", "wrong", "out over in", "of medians")
    return "\n".join([*table(header, rows), "", *table(second, variance)])


def stages() -> str:
    """Members and their mean at each kept epoch, from benchmarks/stages.py."""
    told = (("accuracy", 100, 1), ("nll", 1, 3), ("ece_equal_width_15", 100, 1))
    asked, kinds = ("mutual_information", "entropy", "softmax_response"), ("right", "wrong", "out of domain")
    rows = [
        (str(e["epoch"]),
         *(pair(e[f"{who} {m}"], factor, digits) for m, factor, digits in told for who in ("members", "ensemble")),
         *(f"{e[f'mutual_information {kind}'][0]:.4f}" for kind in kinds),
         *(pair(e[f"OOD ROC-AUC of {score}"], 100, 1) for score in asked))
        for e in read(RESULTS / "stages_minilm.json")["epochs"]
    ]  # fmt: skip
    header = (
        "epoch", "accuracy of members", "of the mean", "NLL of members", "of the mean", "ECE of members", "of the mean",
        "MI right", "MI wrong", "MI out of domain", "OOD ROC-AUC of MI", "of entropy", "of softmax response",
    )  # fmt: skip
    return "\n".join(table(header, rows))


def stack_gpu() -> str:
    """Passes of a decoder with M adapters on a GPU, from benchmarks/stack_gpu.py."""
    found = read(RESULTS / "stack_gpu_h200.json")
    cases = [re.fullmatch(r"(float32|bfloat16)_m(\d+)_b(\d+)", name) for name in found]
    rows = [
        (*case.groups(), f"{one:.0f}", f"{one * row['loop_over_one']:.0f}", f"{one * row['stack_over_one']:.0f}",
         f"{row['loop_over_stack']:.1f}", f"{row['memory_over_one']:.1f}" if "memory_over_one" in row else "–")
        for case in cases if case for row in [found[case[0]]] for one in [row["one_ms"]]
    ]  # fmt: skip
    header = ("precision", "M", "rows", "one adapter, ms", "loop, ms", "stack, ms", "loop over stack",
              "memory over one")  # fmt: skip
    return "\n".join(table(header, rows))


def recompute() -> str:
    """Training five members at once, with and without running blocks again."""
    runs = read(RESULTS / "recompute_cpu.json")["runs"]
    columns = [f"{way}_{what}_over_one" for what in ("seconds", "memory") for way in ("stacked", "recomputed")]
    rows = [
        (f"{run['model']}, {run['blocks']} blocks", f"{run['rows']} × {run['tokens']}",
         *(f"{run[column]:.1f}" for column in columns))
        for run in runs
    ]  # fmt: skip
    header = ("model", "rows × tokens", "time, kept", "time, run again", "memory, kept", "memory, run again")
    return "\n".join(table(header, rows))


def letters() -> str:
    """Whether the decoder learns to answer by letters."""
    runs = read(RESULTS / "letters_smollm2.json")["runs"]
    told = [[", ".join(f"{value:.2f}" for value in run[key]) for key in ("accuracy", "nll")] for run in runs]
    rows = [
        (f"{run['set']}: {run['asked']}", f"{run['rows']:,}", str(run["blocks"]), *own)
        for run, own in zip(runs, told, strict=True)
    ]
    return "\n".join(table(("questions", "rows", "blocks adapted", "accuracy by epoch", "NLL by epoch"), rows))


def read(path: Path) -> Any:
    """A results file."""
    return json.loads(path.read_text(encoding="utf-8"))


def mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Over seeds."""
    return float(np.mean([row[key] for row in rows]))


def spread(values: Sequence[float], factor: float, digits: int) -> str:
    """Mean ± s.d. of the sample."""
    shown = f"{factor * np.mean(values):.{digits}f}"
    return shown if len(values) < 2 else f"{shown} ± {factor * np.std(values, ddof=1):.{digits}f}"


def pair(values: Sequence[float], factor: float, digits: int) -> str:
    """Mean ± s.d. as a summary holds them."""
    return f"{factor * values[0]:.{digits}f} ± {factor * values[1]:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]
