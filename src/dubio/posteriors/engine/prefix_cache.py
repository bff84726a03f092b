"""What enters the first adapted block, of rows that are seen more than once: read once, kept in memory.

In: an engine, whose stack says where that block lies, and token ids. Out: hidden states row by row, padded into any
batch. The base is frozen and its dropouts are off, so they are the same for every epoch, member, sample and posterior.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dubio.files import sha256_json
from dubio.models.adapted import AdaptedModel
from dubio.models.threads import alone
from dubio.models.tokens.batching import batches, pad
from dubio.posteriors.engine.engine import StackEngine

LIMIT = 2 << 30  # bytes of hidden states
_BUDGET = 4096  # tokens that are read at once


@dataclass(frozen=True)
class Trunk:
    """rows: of each row its hidden states `[T, d]`. seconds: that reading them took."""

    rows: Sequence[Tensor]
    seconds: float

    def of(self, rows: NDArray[np.int64]) -> Tensor:
        """`[n, longest, d]` of these rows, padded as their token ids are."""
        return pad_sequence([self.rows[int(i)] for i in rows], batch_first=True)

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return sum(row.numel() * row.element_size() for row in self.rows)


class Trunks:
    """Those that were read, by base, block and tokens, until their `limit` of bytes is reached."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.kept: dict[str, Trunk] = {}

    def read(self, engine: StackEngine, host: AdaptedModel, tokens: Mapping[str, list[list[int]]]) -> Trunk | None:
        """Of rows of token ids (`tokenize`); None where nothing is to be read below the first adapted block, or where
        there is no room for these rows beside the others.
        """
        if not engine.below:
            return None
        with alone(self):
            return self._read(engine, host, tokens)

    def _read(self, engine: StackEngine, host: AdaptedModel, tokens: Mapping[str, list[list[int]]]) -> Trunk | None:
        own = {name: host.hashes[name] for name in ("base", "config")}
        key = sha256_json([own, host.precision, host.device, engine.below, tokens])
        if key in self.kept:
            return self.kept[key]
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        width = int(getattr(host.model.config, "hidden_size", 0)) * (4 if host.precision == "float32" else 2)
        size = int(lengths.sum()) * width
        if not 0 < size <= self.limit - sum(trunk.bytes for trunk in self.kept.values()):
            return None
        start, found = time.perf_counter(), dict[int, Tensor]()
        for at in batches(lengths, _BUDGET):
            seen = engine.trunk(pad({name: [values[i] for i in at] for name, values in tokens.items()}, host))
            assert seen is not None
            found |= {int(i): seen[k, : lengths[i]].clone() for k, i in enumerate(at)}
        self.kept[key] = Trunk([found[i] for i in range(len(lengths))], time.perf_counter() - start)
        return self.kept[key]


_SHARED: ContextVar[Trunks | None] = ContextVar("trunks", default=None)


@contextmanager
def sharing_trunks(trunks: Trunks | None = None) -> Generator[Trunks]:
    """Training runs inside it read the trunk of the same rows once: into `trunks`, or those of the context around, or
    new ones that go at its end.
    """
    found = trunks if trunks is not None else (_SHARED.get() or Trunks())
    token = _SHARED.set(found)
    try:
        yield found
    finally:
        _SHARED.reset(token)
