"""G copies of a classification head as stacked parameters, evaluated together.

A linear head's copies lie side by side in one matrix `[d, C*G]`: one `addmm` serves them all, and with the copies last
every reduction over classes runs along contiguous memory. A dense head (RoBERTa style) shares its first product and
continues with one batched product a layer. Any other module is mapped over its stacked parameters.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

_KNOWN = (nn.Linear, nn.Dropout, nn.Identity, nn.Tanh, nn.GELU, nn.ReLU, nn.SiLU)


class StackedHead:
    """Copies of `head`, all with its weights; `parameters` maps the head's names to stacked tensors.

    `logits` takes features `[n, d]` to `[n, C, G]`.
    """

    def __init__(self, head: nn.Module, copies: int) -> None:
        self.module = copy.deepcopy(head).float().train()
        layers = list(head) if isinstance(head, nn.Sequential) else [head]
        self.layers = layers if all(isinstance(layer, _KNOWN) for layer in layers) else None
        self.prefix = isinstance(head, nn.Sequential)
        linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        self.first = linear[0] if linear else -1
        # Only dropout may come before a lone linear layer, and only nothing after it, for its gradient to be explicit.
        self.lone = self.layers is not None and len(linear) == 1 and linear[0] == len(layers) - 1
        self.passes = 0  # in training, of a module that is mapped
        self.parameters: dict[str, Tensor] = {}
        for name, value in self.module.named_parameters():
            start = value.detach().float()
            where = self.copy_dim(name)
            stacked = start.T if where and start.dim() == 2 else start
            shape = (*stacked.shape[:where], copies, *stacked.shape[where:])
            self.parameters[name] = stacked.unsqueeze(where).expand(shape).clone(memory_format=torch.contiguous_format)
        if not self.lone:
            for value in self.parameters.values():
                value.requires_grad_()

    def copy_dim(self, name: str) -> int:
        """Which dimension of the stacked parameter counts the copies."""
        if self.layers is None or name.rpartition(".")[0] != (str(self.first) if self.prefix else ""):
            return 0
        if self.lone:
            return 2 if name.endswith("weight") else 1  # [d, C, G] and [C, G]
        return 1 if name.endswith("weight") else 0  # [d, G, h] and [G, h]

    def shaped(self, values: Tensor, name: str) -> Tensor:
        """`[G]` values laid along the copies of a parameter, ready to broadcast against it."""
        shape = [1] * self.parameters[name].dim()
        shape[self.copy_dim(name)] = -1
        return values.float().view(shape)

    def keep(self, copies: Tensor) -> None:
        """Drops all copies but the chosen ones (a LongTensor)."""
        for name, value in self.parameters.items():
            kept = value.detach().index_select(self.copy_dim(name), copies).contiguous()
            self.parameters[name] = kept if self.lone else kept.requires_grad_()

    def logits(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`[n, C, G]`; dropout is active exactly when a generator is given."""
        if self.layers is None:
            return self._mapped(features, generator).permute(1, 2, 0)
        out = features
        for i, layer in enumerate(self.layers):
            if isinstance(layer, nn.Linear):
                out = self._linear(out, f"{i}." if self.prefix else "", i == self.first)
            elif isinstance(layer, nn.Dropout):
                out = _dropout(out, layer.p, generator)
            else:
                out = layer(out)
        return out if self.lone else out.transpose(1, 2)

    def gradients(self, features: Tensor, logits: Tensor, slope: Tensor) -> Sequence[Tensor]:
        """Gradient of each parameter, given features `[n, d]`, their logits and the slope `[n, C, G]` there."""
        if not self.lone:
            return torch.autograd.grad(logits, list(self.parameters.values()), slope)
        flat = slope.reshape(len(slope), -1)
        by_name = {"weight": lambda: features.T @ flat, "bias": lambda: flat.sum(dim=0)}
        return [by_name[n.rpartition(".")[2]]().view_as(p) for n, p in self.parameters.items()]

    def single(self) -> dict[str, Tensor]:
        """The parameters of the only copy, in the head's own shapes."""
        out: dict[str, Tensor] = {}
        for name, value in self.parameters.items():
            where = self.copy_dim(name)
            own = value.detach().squeeze(where)
            out[name] = (own.T if where and own.dim() == 2 else own).contiguous()
        return out

    def _linear(self, x: Tensor, name: str, first: bool) -> Tensor:
        weight, bias = self.parameters[f"{name}weight"], self.parameters.get(f"{name}bias")
        if first:
            flat = weight.view(weight.shape[0], -1)
            out = x @ flat if bias is None else torch.addmm(bias.view(-1), x, flat)
            return out.view(-1, *weight.shape[1:])
        rows = x.transpose(0, 1)
        out = rows @ weight.mT if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
        return out.transpose(0, 1)

    def _mapped(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        self.module.train(generator is not None)
        run = vmap(lambda parameters: functional_call(self.module, parameters, (features,)), randomness="different")
        if generator is None:
            return run(self.parameters)
        with torch.random.fork_rng(devices=[]):  # its dropout draws from the global generator: lend it a seed
            self.passes += 1
            torch.manual_seed(generator.initial_seed() + self.passes)
            return run(self.parameters)


def _dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or p == 0:
        return x
    return x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)
