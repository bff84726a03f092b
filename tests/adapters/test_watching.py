"""A training shows its epochs, and without a terminal a line a minute: neither bars nor dictionaries of losses."""

import numpy as np
import pytest

from dubio import progress
from dubio.adapters import trainer as training
from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from models.tiny import base_folder

NAMES = ["film", "phone", "gate"]


def table(rows, seed):
    labels = np.random.default_rng(seed).integers(0, 3, rows)
    return LabelledTexts([f"the {NAMES[y]} was late" for y in labels], None, labels, f"hash of {rows} {seed}")


TRAIN, VALIDATION = table(48, 0), table(24, 1)


def run(out, *, show):
    plan = TrainingPlan(rank=4, epochs=3, batch_size=8, max_length=24, precision="float32", show=show)
    return train_adapter(str(base_folder("bert")), NAMES, TRAIN, VALIDATION, out, plan)


def test_epochs_are_told_and_nothing_else(tmp_path, capfd):
    base_folder("bert")  # is saved once, by transformers, with a bar of its own
    capfd.readouterr()
    record = run(tmp_path / "shown", show=True)
    told = capfd.readouterr()
    lines = [
        f"epoch {at} of 3: validation accuracy {value:.4f}" for at, value in enumerate(record["validation_accuracy"], 1)
    ]
    assert (told.out, told.err.splitlines()) == ("", lines)
    run(tmp_path / "quiet", show=False)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


def test_lines_count_the_steps_also_of_a_run_that_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "EVERY", 0.002)
    real, steps = training.Trainer.training_step, []

    def stopped(*arguments, **options):
        steps.append(1)
        if len(steps) == 9:  # of 6 an epoch
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(training.Trainer, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", show=True)
    first = [line for line in capfd.readouterr().err.splitlines() if line.startswith("training: ")]
    assert all(" of 18 steps after " in line for line in first)
    assert first
    monkeypatch.setattr(training.Trainer, "training_step", real)
    run(tmp_path / "out", show=True)
    told = capfd.readouterr().err.splitlines()
    counts = [int(line.split()[1]) for line in told if line.startswith("training: ")]
    assert counts == sorted(counts)
    assert {count for count in counts if count} <= set(range(6, 19))  # the first epoch was done
    assert [line for line in told if line.startswith("epoch ")] == [line for line in told if "validation acc" in line]
