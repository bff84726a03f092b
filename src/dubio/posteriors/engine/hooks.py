"""Where things lie in a base: its blocks below and above the first adapted layer, and the hooks that lay rows out.

In: a base and the names of its adapted layers. Out: blocks by name, and functions to hook onto them; nothing is changed
here.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from dubio.posteriors.engine.stack import Layout


class Skip(nn.Module):
    """In the place of a block: hands on the hidden states."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """What came in."""
        return hidden_states


def entering(trunk: Tensor) -> Any:
    """A hook that puts `trunk` `[rows, T, d]` in the place of the hidden states that a block is given."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (trunk, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": trunk}

    return hook


# Encoders that read the first token alone, block by block of `attention.self`, `attention.output`, and so on.
FIRST_TOKEN = ("bert", "roberta", "electra", "xlm-roberta", "camembert")
# Families whose blocks hand on hidden states and nothing else, so that those below may be left out.
_PLAIN_BLOCKS = (*FIRST_TOKEN, "distilbert", "gpt2", "llama", "mistral", "qwen2", "qwen3")


def has_trunk(model: nn.Module) -> bool:
    """Whether what enters a block is all that it needs of the blocks below."""
    return getattr(model.config, "model_type", "") in _PLAIN_BLOCKS


def runs_together(model: nn.Module) -> bool:
    """Whether several samples can share a pass. DeBERTa sends its table of relative positions through the adapted
    layers of all rows at once, so there samples run one after another.
    """
    return not str(getattr(model.config, "model_type", "")).startswith("deberta")


def blocks_of(model: nn.Module, names: Iterable[str]) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """(blocks below the first that holds one of the named layers, that block and all above it), by name.

    Both empty where no block holds one: then only what follows the blocks is adapted.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    for name, blocks in lists.items():
        inside = [int(layer[len(name) + 1 :].split(".")[0]) for layer in names if layer.startswith(f"{name}.")]
        if inside:
            named = {f"{name}.{at}": block for at, block in enumerate(blocks)}
            return dict([*named.items()][: min(inside)]), dict([*named.items()][min(inside) :])
    return {}, {}


def expander(layout: Layout) -> Any:
    """A hook that lays out a block's inputs for S samples: hidden states once, masks and positions at every block."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = not layout.expanded
        hidden = args[0] if args else kwargs["hidden_states"]
        done = layout.expand(hidden) if first else hidden
        if first and layout.samples > 1:
            layout.common = (done, hidden)
        layout.expanded = True

        def laid_out(value: Any) -> Any:
            if value is hidden:
                return done
            if isinstance(value, tuple | list):
                return type(value)(laid_out(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
            # One row's tensors broadcast over all samples as they are; of the others, those that are rows.
            if isinstance(value, Tensor) and layout.rows > 1 and len(value) == layout.rows and _by_row(value):
                return layout.expand(value)
            return value

        return tuple(laid_out(a) for a in args), {key: laid_out(value) for key, value in kwargs.items()}

    return hook


def _by_row(value: Tensor) -> bool:
    """Masks and positions of rows; a table of relative positions is a float matrix."""
    return value.dim() > 2 or (value.dim() == 2 and not value.is_floating_point())
