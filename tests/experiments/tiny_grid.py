"""A grid of the tiny classifier, small enough to run in seconds: config as plain values, and running it."""

from pathlib import Path

import yaml

from dubio_bench.grid.config import read_config
from dubio_bench.run.runner import LocalExecutor, Run
from tiny_classifier import build, one_thread


def config(tiny, **changes):
    """A config's values; `changes` replace them."""
    data = {"train": str(tiny.train), "test": str(tiny.test), "validation": str(tiny.validation),
            "calibration": str(tiny.calibration), "rows": {"train": 200, "test": 150}}  # fmt: skip
    values = {
        "name": "small",
        "about": "a test",
        "models": {"tiny": {"base": str(tiny.base), "family": "bert"}},
        "data": {"topics": data},
        "seeds": [0, 1],
        "trainer": "stack",
        "training": {"epochs": 2, "learning_rate": 0.03, "batch_size": 32, "max_length": 32},
        "methods": ["softmax_response", "md", "probe", "adue_unguarded"],
        "certification": 0.3,
    }
    return {**values, **changes}


def write(folder, values):
    """The YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(folder) / "grid.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def made(folder, values, **options):
    """A `Run` in `folder`, and the lines that it will say."""
    path, lines = write(folder, values), []
    where = {"root": Path("/"), "store": folder / "store", "results": folder / "results", "say": lines.append}
    return Run(read_config(path), path, **{**where, **options}), lines


@one_thread()
def run(folder, values, executor=None, **options):
    """Runs it; (the Run, how it stands, the lines)."""
    whole, lines = made(folder, values, **options)
    return whole, whole.run(executor or LocalExecutor()), lines


def tiny_of(tmp_path_factory):
    """The tables and base, not fitted."""
    return build(tmp_path_factory.getbasetemp() / "tiny-grid")
