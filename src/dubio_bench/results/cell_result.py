"""What a cell leaves for the tables: figures in a small JSON, and the rows in Parquet, from which all else follows.

    cell.json      metrics by method, of scores and of systems, and of each posterior's samples alone, in the mean;
                   error ROC-AUC on calibration, out of fold; costs, what the choice was and why; rows, machine, keys
    rows.parquet   a line a test row: `wrong` (of the predictions judged); `rank:METHOD`, the dense rank of the method's
                   uncertainty, ties sharing one (every metric of detection depends on the order alone); of each system
                   its `wrong:NAME`, `loss:NAME` (NLL in nats) and `rank:NAME` of its own softmax response

So a table, an interval over rows and seeds, or a metric not thought of before is computed later, without any model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from dubio.arrays import Bool, Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.files import atomic_path, write_json
from dubio.log_space import log_softmax
from dubio.measures import log_complement, log_mean
from dubio.metrics import aurc, ece, roc_auc
from dubio.metrics.calibration import BINS
from dubio.metrics.evaluation import ADAPTER
from dubio.safe_reading import FACTS, check_file, read_object
from dubio.workflow.evaluation import Evaluation
from dubio.workflow.fitting import Fit
from dubio_bench.grid.steps import Step
from dubio_bench.results.seals import SEALED, check_rows, sealed, unsealed

CELL, ROWS = "cell.json", "rows.parquet"
_SYSTEM = "system_"
_OF_MEMBERS = ("accuracy", "nll", "aurc", f"ece_equal_width_{BINS}")


def save_outcome(folder: Path, step: Step, fit: Fit, found: Evaluation, test: Representations) -> None:
    """Writes both files; the JSON last."""
    columns: dict[str, NDArray[Any]] = {"wrong": test.errors}
    columns |= {f"rank:{name}": dense_ranks(scores.uncertainty) for name, scores in found.scores.items()}
    for name, log_p in systems_of(fit, test).items():
        own, rows = log_p.argmax(axis=1), np.arange(len(test))
        columns[f"wrong:{name}"] = own != test.known_labels
        columns[f"loss:{name}"] = -log_p[rows, test.known_labels].astype(np.float32)
        columns[f"rank:system:{name}"] = dense_ranks(log_complement(log_p, own))
    with atomic_path(folder / ROWS) as temporary:
        table = pa.table(columns).replace_schema_metadata({"key": step.key, **SEALED})
        how = {c: "BYTE_STREAM_SPLIT" for c, v in columns.items() if v.dtype != np.bool_}  # half of the usual size
        parquet.write_table(table, temporary, compression="zstd", compression_level=19, use_dictionary=False,
                            column_encoding=how)  # fmt: skip
    cell = {"model": step.cell.model, "data": step.cell.data, "seed": step.cell.seed}
    write_json(folder / CELL, sealed({
        "cell": {**cell, "predictions": step.facts["predictions"]},
        "key": step.key,
        "steps": {str(need): need.key for need in step.needs.values()},
        "classes": test.classes,
        "test_labels": hashlib.sha256(test.known_labels.tobytes()).hexdigest()[:16],
        "members": members_of(test),
        "choice": {"method": fit.choice.method, "why": fit.choice.why},
        "left_out": dict(fit.left_out),
        "metrics": figures(found),
        "calibration": calibration_of(fit),
        "methods": {name: {"fit_seconds": round(m.fit_seconds, 3), "ms_per_1000": round(found.milliseconds[name], 4),
                           "facts": _plain(m.score.facts_)} for name, m in fit.methods.items()},
    }, rows=folder / ROWS))  # fmt: skip


def systems_of(fit: Fit, test: Representations) -> dict[str, Float64]:
    """System -> log-probabilities `[N, C]`: the adapter itself, each posterior's mean, and what changes predictions."""
    found = {ADAPTER: log_softmax(test.logits), **{name: log_mean(table) for name, table in test.samples.items()}}
    for name, method in fit.methods.items():
        changed = method.score.log_probabilities(test)
        if changed is not None:
            found[name] = changed
    return found


def calibration_of(fit: Fit) -> dict[str, float]:
    """Method -> error ROC-AUC of its out-of-fold scores on the fitting half of calibration: by what one may choose."""
    errors = fit.judged.errors
    return {name: float(f"{roc_auc(own, errors):.6g}") for name, own in fit.honest.items()}


def members_of(test: Representations) -> dict[str, dict[str, float]]:
    """Posterior -> metric -> mean over its samples, each judged alone by its own predictions: what their mean beats."""
    out: dict[str, dict[str, float]] = {}
    at, labels = np.arange(len(test)), test.known_labels
    for name, table in test.samples.items():
        each: list[tuple[float, ...]] = []
        for sample in table:
            log_p = np.asarray(sample, dtype=np.float64)
            own = log_p.argmax(axis=1)
            risk = aurc(log_complement(log_p, own), own != labels)
            gap = ece(np.exp(log_p[at, own]), own == labels)
            each.append((float((own == labels).mean()), -float(log_p[at, labels].mean()), risk, gap))
        means = np.mean(each, axis=0)
        out[name] = {metric: float(f"{v:.6g}") for metric, v in zip(_OF_MEMBERS, means, strict=True)}
    return out


def figures(found: Evaluation) -> dict[str, dict[str, float]]:
    """Method or `system:NAME` -> metric -> value."""
    out: dict[str, dict[str, float]] = {}
    for metric in found.metrics:
        if metric.value is None:
            continue
        system = metric.metric.startswith(_SYSTEM) or metric.method == ADAPTER
        name = f"system:{metric.method}" if system else metric.method
        out.setdefault(name, {})[metric.metric.removeprefix(_SYSTEM)] = float(f"{metric.value:.6g}")
    return out


def dense_ranks(values: Float64) -> NDArray[Any]:
    """`[N]` 0 for the smallest value, equal values alike, as the smallest unsigned integers that hold them."""
    ranks = np.unique(values, return_inverse=True)[1].ravel()
    return ranks.astype(np.uint16 if len(ranks) < 1 << 16 else np.uint32)


@dataclass(frozen=True)
class Outcome:
    """One cell as the tables read it. wrong `[N]`; ranks: method -> `[N]`; systems: name -> (wrong, loss, ranks)."""

    facts: Mapping[str, Any]
    wrong: Bool
    ranks: Mapping[str, NDArray[Any]]
    systems: Mapping[str, tuple[Bool, NDArray[Any], NDArray[Any]]]

    @property
    def place(self) -> tuple[str, str, int, str]:
        """(model, set, seed, whose predictions)."""
        cell = self.facts["cell"]
        return cell["model"], cell["data"], cell["seed"], cell["predictions"]

    def figure(self, method: str, metric: str) -> float | None:
        """A value, or None where it was not measured."""
        return self.facts["metrics"].get(method, {}).get(metric)


def keys_in(path: Path) -> dict[str, str] | None:
    """Which outcomes are of a grid as it is now, by name and key; None where the file is not there, or damaged."""
    try:
        found = unsealed(read_object(path, limit=FACTS))
        return {str(name): str(key) for name, key in found.items()}
    except (OSError, ValueError, AttributeError):
        return None


def is_whole(cell: Path, rows: Path, key: str) -> bool:
    """Whether both files are there, and of the step of this key."""
    try:
        facts = read_object(cell, limit=FACTS)
        check_file(rows)
        schema = parquet.read_schema(rows)
        check_rows(facts, rows, schema.metadata or {})
        return facts["key"] == key and _key_of(schema) == key and {"cell", "metrics"} <= {*facts}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return False


def _key_of(schema: Any) -> str:
    return (schema.metadata or {}).get(b"key", b"").decode()


def read_outcome(cell: Path, rows: Path) -> Outcome:
    """From the two files; raises DubioError where one is damaged or they do not belong together."""
    try:
        facts = read_object(cell, limit=FACTS)
        check_file(rows)
        schema = parquet.read_schema(rows)
        if _key_of(schema) != facts["key"]:
            raise ValueError("they are of different runs")
        check_rows(facts, rows, schema.metadata or {})  # before anything of it is unpacked
        table = parquet.read_table(rows)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        wrong, names = columns.pop("wrong"), [c.partition(":")[2] for c in columns if c.startswith("loss:")]
        systems = {n: (columns[f"wrong:{n}"], columns[f"loss:{n}"], columns[f"rank:system:{n}"]) for n in names}
        ranks = {c[5:]: v for c, v in columns.items() if c.startswith("rank:") and not c.startswith("rank:system:")}
        _ = [facts["cell"][name] for name in ("model", "data", "seed", "predictions")], {**facts["methods"]}
        _ = {name: {**figures} for name, figures in {**facts["metrics"]}.items()}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DubioError(
            f"{cell} and {rows.name} are not the outcome of a cell ({' '.join(str(error).split())}); run the grid again"
        ) from error
    return Outcome(facts, wrong.astype(np.bool_), ranks, systems)


def _plain(facts: Mapping[str, Any]) -> Any:
    """As JSON without long lists, which are of no use in a table."""
    return {
        k: v for k, v in json.loads(json.dumps(facts, default=float)).items() if not isinstance(v, list) or len(v) < 9
    }
