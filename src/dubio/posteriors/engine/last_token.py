"""The part of the last block where one token of each row is enough, because nothing after it looks at the others.

In: a base, the layout of the batch. Out: hooks for as long as a context lasts. Keys and values need all tokens, what
follows the attention does not: of six blocks that spares an eighth of all products.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dubio.posteriors.engine.hooks import FIRST_TOKEN
from dubio.posteriors.engine.stack import Layout

# Decoders whose blocks end in `hidden + mlp(norm(hidden))`.
_MLP_LAST = ("gpt2", "llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Tail:
    """module: of the last block. last: whether the last token is the one (a decoder's), not the first."""

    module: nn.Module
    last: bool


def tail_of(model: nn.Module) -> Tail | None:
    """None where the family is not known to look at one token, or its last block has no such part."""
    family = getattr(model.config, "model_type", "")
    part = "attention" if family in FIRST_TOKEN else "mlp"
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) and hasattr(m[-1], part)]
    if not lists or family not in (*FIRST_TOKEN, *_MLP_LAST):
        return None
    found: Any = getattr(lists[-1][-1], part)
    module = getattr(found, "output", None) if part == "attention" else found
    return Tail(module, last=part == "mlp") if isinstance(module, nn.Module) else None


@contextmanager
def shortened(tail: Tail | None, layout: Layout) -> Generator[None]:
    """The tail sees one token of each row. A decoder's gives zeros for the others, so that the row keeps its length."""
    with ExitStack() as leaving:
        if tail is not None and tail.last:
            one = _LastToken(layout)
            leaving.callback(tail.module.register_forward_pre_hook(one.taken).remove)
            leaving.callback(tail.module.register_forward_hook(one.put_back).remove)
        elif tail is not None:
            leaving.callback(tail.module.register_forward_pre_hook(_first_token, with_kwargs=True).remove)
        yield


def _first_token(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """Of hidden states `[n, T, d]`, `[n, 1, d]`."""
    return tuple(a[:, :1] for a in args), {key: value[:, :1] for key, value in kwargs.items()}


class _LastToken:
    """Two hooks around a module: its input `[n, T, d]` -> `[n, 1, d]`, its output `[n, 1, d]` -> `[n, T, d]`."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.length = layout, 0

    def taken(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        """The last token of each row."""
        (hidden,) = args
        self.length = hidden.shape[1]
        return (hidden.gather(1, self._places(hidden)),)

    def put_back(self, _: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """That token at its place among zeros."""
        return out.new_zeros(len(out), self.length, out.shape[2]).scatter(1, self._places(out), out)

    def _places(self, value: Tensor) -> Tensor:
        """`[n, 1, d]`, of rows that are laid out sample-major."""
        last = self.layout.last
        assert last is not None
        return last.repeat(len(value) // len(last))[:, None, None].expand(-1, 1, value.shape[2])
