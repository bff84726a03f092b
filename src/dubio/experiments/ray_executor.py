"""Steps as tasks of a Ray cluster: one task a step with the processors it needs, tried again where a worker is lost.

All machines share the folder of the store, and the tables; a task takes the step and returns its record. No more tasks
are given out than WAITING a processor, so that the driver's memory does not grow with the grid. An error of the step's
own is not tried again: it is recorded, as in this process.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.experiments.config import Resources
from dubio.experiments.running import Finished
from dubio.experiments.steps import Step
from dubio.experiments.work import run_step

WAITING = 2  # tasks given out for each processor
RETRIES = 3  # of a task whose worker was lost


class RayExecutor:
    """address: of a cluster; None: one of this machine's own. cpus: of that one."""

    def __init__(self, address: str | None = None, cpus: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise DubioError("--executor ray needs Ray: pip install 'dubio[ray]'") from error
        self.ray: Any = ray
        options: dict[str, Any] = {"address": address} if address else {"num_cpus": cpus, "include_dashboard": False}
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DubioError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:200]}") from error

    def run(self, steps: Sequence[Step], root: Path, resources: Mapping[str, Resources]) -> Iterator[Finished]:
        """As steps end; those that need one that failed are not tried."""
        known = {step.key for step in steps}
        waits = {s.key: {need.key for need in s.needs.values() if need.key in known} for s in steps}
        waiting = {step.key: step for step in steps}
        failed: dict[str, str] = {}
        running: dict[Any, Step] = {}
        remote = self.ray.remote(max_retries=RETRIES, retry_exceptions=False)(_task)
        most = max(2, WAITING * int(self.ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            for key, step in [*waiting.items()]:
                error = next((failed[need] for need in waits[key] if need in failed), "")
                if error:
                    failed[key] = error
                    del waiting[key]
                    yield step, None, error
                elif len(running) < most and not any(need in waiting or need in _keys(running) for need in waits[key]):
                    need = resources.get(step.kind, Resources(cpus=1, gpus=0))
                    running[remote.options(num_cpus=need.cpus, num_gpus=need.gpus).remote(step, root)] = step
                    del waiting[key]
            if not running:
                continue
            for task in self.ray.wait([*running], num_returns=1)[0]:
                step = running.pop(task)
                try:
                    yield step, self.ray.get(task), ""
                except Exception as problem:  # the step's own, or a worker lost too often
                    cause = getattr(problem, "cause", None) or problem
                    failed[step.key] = " ".join(f"{type(cause).__name__}: {cause}".split())
                    yield step, None, failed[step.key]

    def close(self) -> None:
        """Leaves the cluster; one of our own ends."""
        self.ray.shutdown()


def _keys(running: Mapping[Any, Step]) -> set[str]:
    return {step.key for step in running.values()}


def _task(step: Step, root: Path) -> dict[str, Any]:
    return run_step(step, root)
