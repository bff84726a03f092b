"""Doing one step: all that an executor calls. It needs nothing but the step and the store's folder.

So it runs in any process, on any machine that shares that folder; the model's side is imported when it is needed.
"""

import platform
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio_bench.grid.steps import Step
from dubio_bench.run.store import StepStore

_RECORDED = ("dubio", "torch", "transformers", "peft", "numpy", "scikit-learn")


def run_step(step: Step, root: Path) -> dict[str, Any]:
    """Does a step, unless it is done; returns its record. Whatever goes wrong is recorded, then raised."""
    store = StepStore(root)
    with store.claim(step.kind, step.key) as folder:
        known = store.record(step.kind, step.key)
        if known is not None:
            return known
        store.tried(step.kind, step.key)
        start = time.perf_counter()
        try:
            told = _work(step, folder, store)
        except Exception as error:
            lost = [str(need) for need in step.needs.values() if store.lost(need.kind, need.key)]
            wrong = " ".join(f"{type(error).__name__}: {error}".split())
            told = f"{wrong} ({', '.join(lost)} had lost files, and is done again by the next run)" if lost else wrong
            store.fail(step.kind, step.key, {"step": str(step), "error": told, "trace": traceback.format_exc()})
            if lost:
                raise DubioError(told) from error
            raise
        record = {
            "step": str(step), "key": step.key, "seconds": round(time.perf_counter() - start, 3), "told": told,
            "facts": dict(step.facts), "machine": machine(),
        }  # fmt: skip
        store.finish(step.kind, step.key, record)
        return record


def machine() -> dict[str, Any]:
    """Where it ran: hardware and versions."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(), "threads": torch.get_num_threads(), "gpu": gpu,
        "python": platform.python_version(), "versions": {name: version(name) for name in _RECORDED},
    }  # fmt: skip


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _work(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    if step.kind == "score":
        from dubio_bench.run.score_step import judge

        return judge(step, folder, store)
    from dubio_bench.run import model_steps as making

    makers = {"adapter": making.adapter, "posterior": making.posterior, "represent": making.represent,
              "samples": making.samples, "pooled": making.pooled}  # fmt: skip
    return makers[step.kind](step, folder, store)
