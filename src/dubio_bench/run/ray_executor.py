"""Steps as tasks of a Ray cluster: one task a step with the processors it needs, tried again where a worker is lost.

All machines share the folder of the store, and the tables; a task takes the step and returns its record. No more tasks
are given out than WAITING a processor, so that the driver's memory does not grow with the grid. An error of the step's
own is not tried again: it is recorded, as in this process.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.ray_cluster import connect
from dubio_bench.grid.config import Resources
from dubio_bench.grid.steps import Step
from dubio_bench.run.run_step import run_step
from dubio_bench.run.runner import Finished
from dubio_bench.run.store import StepStore

WAITING = 2  # tasks given out for each processor
RETRIES = 3  # of a task whose worker was lost


class RayExecutor:
    """address: of a cluster; None: one of this machine's own. cpus: of that one. work: what a task does with a step."""

    def __init__(
        self, address: str | None = None, cpus: int | None = None,
        work: Callable[[Step, Path], dict[str, Any]] = run_step,
    ) -> None:  # fmt: skip
        self.ray = connect(address, cpus)
        self.work = work

    def run(self, steps: Sequence[Step], root: Path, resources: Mapping[str, Resources]) -> Iterator[Finished]:
        """As steps end; those that need one that failed are not tried."""
        remote = self.ray.remote(max_retries=RETRIES, retry_exceptions=False)(self.work)
        most = max(2, WAITING * int(self.ray.cluster_resources().get("CPU", 1)))
        self._check(steps, resources)
        queue, running = _Queue(steps), dict[Any, Step]()
        while queue.ready or running:
            while queue.ready and len(running) < most:
                step = queue.ready.popleft()
                need = resources.get(step.kind, Resources(cpus=1, gpus=0))
                running[remote.options(num_cpus=need.cpus, num_gpus=need.gpus).remote(step, root)] = step
            for task in self.ray.wait([*running], num_returns=1)[0]:
                step, record, error = running.pop(task), None, ""
                try:
                    record = self.ray.get(task)
                except Exception as problem:  # the step's own, or a worker lost too often
                    cause = getattr(problem, "cause", None) or problem
                    error = " ".join(f"{type(cause).__name__}: {cause}".split())
                    store = StepStore(root)
                    if store.failure(step.kind, step.key) is None:  # nobody was left to record it
                        store.fail(step.kind, step.key, {"step": str(step), "error": error, "trace": ""})
                yield step, record, error
                yield from ((other, None, error) for other in queue.ended(step, failed=record is None))

    def _check(self, steps: Sequence[Step], resources: Mapping[str, Resources]) -> None:
        """Raises DubioError where a step asks for more than any machine has: it would wait for ever."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for kind in sorted({step.kind for step in steps} & resources.keys()):
            need = resources[kind]
            if not any(node.get("CPU", 0) >= need.cpus and node.get("GPU", 0) >= need.gpus for node in nodes):
                raise DubioError(
                    f"a step {kind} takes {need.cpus:g} CPUs and {need.gpus:g} GPUs, and no machine of the cluster has "
                    "so many; change the config's resources"
                )

    def close(self) -> None:
        """Leaves the cluster; one of our own ends."""
        self.ray.shutdown()


class _Queue:
    """Steps whose needs are done, in order; and what waits for the others."""

    def __init__(self, steps: Sequence[Step]) -> None:
        known = {step.key for step in steps}
        self.missing = {s.key: {need.key for need in s.needs.values() if need.key in known} for s in steps}
        self.waiting: dict[str, list[Step]] = {}
        for step in steps:
            for key in self.missing[step.key]:
                self.waiting.setdefault(key, []).append(step)
        self.lost: set[str] = set()
        self.ready = deque(step for step in steps if not self.missing[step.key])

    def ended(self, step: Step, *, failed: bool) -> list[Step]:
        """Makes ready what waited for it alone; of a failed step, returns all that can never be done now."""
        if not failed:
            for other in self.waiting.pop(step.key, []):
                self.missing[other.key].discard(step.key)
                if not self.missing[other.key]:
                    self.ready.append(other)
            return []
        found, todo = list[Step](), [step]
        while todo:
            for other in self.waiting.pop(todo.pop().key, []):
                if other.key not in self.lost:
                    self.lost.add(other.key)
                    found.append(other)
                    todo.append(other)
        return found
