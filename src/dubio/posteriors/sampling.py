"""Texts -> log-probabilities of S adapters drawn from a posterior, shard by shard, memory bounded by the shard.

A shard's name is the hash of the base, the posterior, S, the seed, and the texts; it is whole or absent, so a killed
run resumes with the missing ones.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dubio.arrays import Float32, check_finite
from dubio.errors import DubioError
from dubio.files import sha256_json
from dubio.models.adapted import AdaptedModel
from dubio.models.cache import map_arrays, read_arrays, save_arrays
from dubio.models.cache_limit import use
from dubio.models.extraction import Extraction, shard_key, width_of
from dubio.models.threads import alone
from dubio.models.tokens.batching import Block, batches, blocks_of, pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.linearised import LinearEngine
from dubio.posteriors.engine.prefix_cache import Trunks
from dubio.posteriors.engine.stack import moved
from dubio.posteriors.engine.stack_check import check_stack
from dubio.posteriors.store import Stored
from dubio.posteriors.training.folds import fold_numbers
from dubio.posteriors.training.parametrisation import form_of
from dubio.progress import progress
from dubio.safe_reading import short

Averaging = StackEngine | LinearEngine  # both give a batch's mean features and the logits of all samples

T = TypeVar("T")


@dataclass(frozen=True)
class Sampler:
    """S adapters drawn from a stored posterior, on their base. Raises DubioError on another base.

    trunks: where the trunk of rows is kept that are to be sampled more than once.
    """

    host: AdaptedModel
    stored: Stored
    samples: int | None = None
    seed: int = 0
    trunks: Trunks | None = None

    def engine(self) -> StackEngine:
        """The engine with the drawn stack in it."""
        return self._engine(self._draws())

    def averaging(self) -> Averaging:
        """What predicts: that engine, or the network linearised around the posterior's centre."""
        centre = self._told(lambda: self.stored.posterior.centre)
        return self.engine() if centre is None else LinearEngine.around(self._engine(centre), self._draws())

    def _draws(self) -> dict[str, Tensor]:
        return self._told(lambda: self.stored.posterior.draw(self.samples or self.stored.samples, self.seed))

    def _engine(self, values: Mapping[str, Tensor]) -> StackEngine:
        for what, digest in self.stored.base.items():
            if self.host.hashes.get(what) != digest:
                other = "other letters or another prompt" if what == "letters" else f"another {what}"
                raise DubioError(f"posterior {self.stored.name} belongs to {other}; make it again on this one")
        on_device = {name: moved(value, self.host.device) for name, value in values.items()}
        with alone(self.host.site.module):  # whose layers are looked at
            stack = self._told(lambda: form_of(self.stored.form, self.host)(on_device))
            check_stack(stack, self.host.model, self.host.site.head, self.stored.name)
        rate = self._told(lambda: float(self.stored.posterior.token_rate))
        return StackEngine(self.host.model, self.host.site, stack, self.host.inputs, rate, self.seed)

    def _told(self, make: Callable[[], T]) -> T:
        """What `make` gives; raises DubioError where what is stored cannot be what a posterior has written."""
        try:
            return make()
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            if isinstance(error, DubioError):
                raise
            reason = f"{type(error).__name__}: {short(str(error), 120)}"
            raise DubioError(
                f"posterior {self.stored.name} cannot be drawn from what is stored ({reason}); make it again"
            ) from error

    @property
    def key(self) -> str:
        """What the samples depend on besides model and texts."""
        own = (self.stored.name, self.stored.sha256, self.samples or self.stored.samples, self.seed)
        return sha256_json(["2", *own])  # how the numbers of a pass are laid out, which masks are drawn along


def sampler_of(model: AdaptedModel, host: AdaptedModel, stored: Stored) -> Sampler:
    """On the base `host` under a loaded adapter; raises DubioError where the posterior was made from another one."""
    made_from = stored.posterior.facts.get("adapter_sha256")
    if made_from is not None and made_from != model.hashes.get("adapter"):
        raise DubioError(f"posterior {stored.name} was made from another adapter; make it again from this one")
    return Sampler(host, stored)


def sample(
    sampler: Sampler, texts: Sequence[str], pairs: Sequence[str] | None = None, how: Extraction | None = None
) -> Float32:
    """`[S, N, C]` log-probabilities of all rows, in memory; raises DubioError as `extract` does."""
    return sample_both(sampler, texts, pairs, how)[1]


def sample_both(
    sampler: Sampler, texts: Sequence[str], pairs: Sequence[str] | None = None, how: Extraction | None = None
) -> tuple[Float32, Float32]:
    """(features `[N, d]`, the mean over samples; log-probabilities `[S, N, C]`) of all rows, in memory."""
    return sample_rows(sampler, sampler.averaging(), texts, pairs, how)


def sample_rows(
    sampler: Sampler, engine: Averaging, texts: Sequence[str], pairs: Sequence[str] | None = None,
    how: Extraction | None = None,
) -> tuple[Float32, Float32]:  # fmt: skip
    """As `sample_both`, by the stack of `engine`: all of the sampler's adapters, or some."""
    how = how or Extraction()
    with progress(f"sampling {sampler.stored.name}", len(texts), show=how.show) as advance:
        parts: list[tuple[Float32, Float32]] = []
        for block in blocks_of(texts, pairs, how.shard_rows):
            parts.append(_block(sampler.host, engine, block, how, sampler.trunks))
            advance(len(block.texts))
    return np.concatenate([z for z, _ in parts]), np.concatenate([table for _, table in parts], axis=1)


def sample_to(
    sampler: Sampler, texts: Sequence[str], pairs: Sequence[str] | None, cache: Path, how: Extraction | None = None
) -> tuple[Path, ...]:
    """As `sample_both`, into shards `features`, `log_probabilities`, `seconds`, aligned with those of `extract_to`."""
    how, engine = how or Extraction(), None
    paths: list[Path] = []
    with progress(f"sampling {sampler.stored.name}", len(texts), show=how.show) as advance:
        for block in blocks_of(texts, pairs, how.shard_rows):
            key = sha256_json([shard_key(sampler.host, block, how), sampler.key])
            path = cache / f"{key}.safetensors"
            written = 0
            if not _is_whole(path, sampler, len(block.texts)):
                engine, start = engine or sampler.averaging(), time.perf_counter()
                features, table = _block(sampler.host, engine, block, how, sampler.trunks)
                spent = np.array([time.perf_counter() - start])
                save_arrays(path, {"features": features, "log_probabilities": table, "seconds": spent})
                written = path.stat().st_size
            use([path], written)
            advance(len(block.texts))
            paths.append(path)
    return tuple(paths)


def seconds_of(shards: Sequence[Path]) -> float:
    """Seconds that the passes of these shards took when they ran."""
    return float(sum(map_arrays(path)["seconds"][0] for path in shards))


def _block(
    host: AdaptedModel, engine: Averaging, block: Block, how: Extraction, trunks: Trunks | None = None
) -> tuple[Float32, Float32]:
    """Mean features `[n, d]` and log-probabilities `[S, n, C]` of a block, in the rows' own order."""
    tokens = tokenize(host, block.texts, block.pairs)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    features, out = np.empty((0, 0), np.float32), np.empty((0, 0, 0), np.float32)
    budget = how.budget(host)
    below = engine.engine if isinstance(engine, LinearEngine) else engine
    trunk = None if trunks is None else trunks.read(below, host, tokens)
    for rows in batches(lengths, budget):
        batch = pad({key: [values[i] for i in rows] for key, values in tokens.items()}, host)
        mean, logits = engine.averaged(batch, budget, None if trunk is None else trunk.of(rows))
        if not len(out):
            features = np.empty((len(lengths), mean.shape[1]), dtype=np.float32)
            out = np.empty((len(logits), len(lengths), logits.shape[2]), dtype=np.float32)
        features[rows] = mean.cpu().numpy()
        out[:, rows] = torch.log_softmax(logits.double(), dim=2).float().cpu().numpy()
    check_finite(features, "features of the samples", block.start)
    check_finite(out.min(axis=(0, 2)), "samples", block.start)
    return features, out


def _is_whole(path: Path, sampler: Sampler, rows: int) -> bool:
    """Whether a whole shard of so many rows, of this base's width and classes, and of all samples is there."""
    try:
        arrays = read_arrays(path) if path.exists() else {}
    except DubioError:
        return False
    host, count = sampler.host, sampler.samples or sampler.stored.samples
    wanted = {"features": (np.dtype(np.float32), (rows, width_of(host))),
              "log_probabilities": (np.dtype(np.float32), (count, rows, len(host.labels))),
              "seconds": (np.dtype(np.float64), (1,))}  # fmt: skip
    return {name: (value.dtype, value.shape) for name, value in arrays.items()} == wanted


def sample_held_out(
    sampler: Sampler, texts: Sequence[str], pairs: Sequence[str] | None = None, how: Extraction | None = None
) -> tuple[Float32, Float32]:
    """(features `[N, d]`, log-probabilities `[1, N, C]`) of training rows, each by the member that has not seen it."""
    sampler = replace(sampler, trunks=None)  # each row is seen by one member only: there is nothing to read once
    engine, found = sampler.engine(), dict[int, tuple[Float32, Float32]]()
    if len(engine.stack) != sampler.stored.samples:  # rows are dealt among those that were trained
        raise DubioError(f"K-fold adapters judge their rows all together: draw {sampler.stored.samples}, not fewer")
    fold = fold_numbers(texts, pairs, len(engine.stack))
    for m in range(len(engine.stack)):
        at = np.flatnonzero(fold == m)
        if len(at):
            alone = replace(engine, stack=engine.stack.take(slice(m, m + 1)))
            own = None if pairs is None else [pairs[int(i)] for i in at]
            found[m] = sample_rows(sampler, alone, [texts[int(i)] for i in at], own, how)
    order = np.argsort(np.concatenate([np.flatnonzero(fold == m) for m in found]), kind="stable")
    features = np.concatenate([z for z, _ in found.values()])[order]
    return features, np.concatenate([table for _, table in found.values()], axis=1)[:, order]
