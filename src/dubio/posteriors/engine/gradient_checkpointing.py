"""Blocks that run a second time in the backward pass, so that of the forward one only what enters them is kept.

In: blocks of a base, the stacked layers that stand in them, the layout of the batch. Out: modules for their places.
M members at once keep M times the activations of one; with this they keep what enters each block, and all of one block,
for a second forward pass. Source: Chen et al. 2016 (arXiv 1604.06174), by `torch.utils.checkpoint`.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dubio.posteriors.engine.last_token import Tail, shortened
from dubio.posteriors.engine.stack import Layout, StackedDense, StackedLinear, swapped


def recomputed(
    blocks: Mapping[str, nn.Module], layers: Mapping[str, StackedLinear | StackedDense], tail: Tail | None,
    layout: Layout,
) -> tuple[dict[str, nn.Module], dict[str, StackedLinear | StackedDense]]:  # fmt: skip
    """(what stands for the blocks, by name; the layers that lie in none of them). tail: see `tail_of`."""
    made: dict[str, nn.Module] = {}
    for name, block in blocks.items():
        inside = {n.removeprefix(f"{name}."): layer for n, layer in layers.items() if n.startswith(f"{name}.")}
        own = tail if tail is not None and any(module is tail.module for module in block.modules()) else None
        made[name] = Recomputed(block, partial(_entered, block, inside, own, layout), layout.generators)
    return made, {n: layer for n, layer in layers.items() if not n.startswith(tuple(f"{name}." for name in blocks))}


@contextmanager
def _entered(
    block: nn.Module, inside: Mapping[str, StackedLinear | StackedDense], tail: Tail | None, layout: Layout
) -> Generator[None]:  # fmt: skip
    for layer in inside.values():  # another pass of the same engine may have come between
        layer.layout = layout
    with ExitStack() as leaving:
        leaving.enter_context(swapped(block, inside))
        leaving.enter_context(shortened(tail, layout))
        yield


class Recomputed(nn.Module):
    """Stands for `block`. entered: a context with its stacked layers and hooks in it, since its second run comes after
    the model was left. generators: set back for that run, so that it meets the same noise.
    """

    def __init__(
        self, block: nn.Module, entered: Callable[[], AbstractContextManager[None]],
        generators: Sequence[torch.Generator],
    ) -> None:  # fmt: skip
        super().__init__()
        self.held = (block,)  # in a tuple, so that it is no part of this module
        self.entered, self.generators = entered, generators

    def __getattr__(self, name: str) -> Any:
        """What models ask of their blocks, such as the kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.held[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the block gives."""
        began = [g.get_state() for g in self.generators]
        runs = 0

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal runs
            now, runs = [g.get_state() for g in self.generators], runs + 1
            if runs > 1:
                self._set(began)
            try:
                with self.entered():
                    return self.held[0](*args, **kwargs)
            finally:
                if runs > 1:
                    self._set(now)

        return checkpoint(run, *args, use_reentrant=False, **kwargs)

    def _set(self, states: Sequence[torch.Tensor]) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
