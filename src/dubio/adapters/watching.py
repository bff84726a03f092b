"""What is shown of a training by the Trainer: a bar or a line a minute, and each epoch's validation accuracy."""

import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback

from dubio.progress import progress
from dubio.showing import tell


@contextmanager
def watched(trainer: Trainer, *, show: bool) -> Generator[None]:
    """Around `trainer.train`, in place of transformers' own bar and losses; `show` False: nothing is written."""
    trainer.remove_callback(PrinterCallback)
    data, args = trainer.train_dataset, trainer.args
    assert data is not None
    rows = len(data)  # pyright: ignore[reportArgumentType]
    total = math.ceil(rows / args.train_batch_size) * math.ceil(args.num_train_epochs)
    with progress("training", total, "steps", show) as advance:
        watcher = _Watcher(advance, show=show)
        trainer.add_callback(watcher)
        try:
            yield
        finally:
            trainer.remove_callback(watcher)


class _Watcher(TrainerCallback):
    def __init__(self, advance: Callable[[int], None], *, show: bool) -> None:
        self.advance, self.show = advance, show

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Counts what an interrupted run has done already."""
        self.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step more."""
        self.advance(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Tells an epoch's accuracy."""
        if self.show and metrics and "eval_accuracy" in metrics:
            epoch, epochs = round(state.epoch), math.ceil(args.num_train_epochs)
            tell(f"epoch {epoch} of {epochs}: validation accuracy {metrics['eval_accuracy']:.4f}", file=sys.stderr)
