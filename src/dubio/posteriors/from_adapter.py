"""Posteriors made from an adapter that is there already: MC-dropout, TFB, Laplace on the last layer or on A and B.

In: an adapter folder (plain LoRA), and labelled rows where the method needs them. Out: a posterior to store beside it.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dubio.adapters.plan import LabelledTexts
from dubio.arrays import Int64
from dubio.containers import Representations
from dubio.errors import DubioError, ProofError
from dubio.measures import log_mean
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.attaching import put_on
from dubio.models.adapter.embeddings import check_untouched, fit_embeddings
from dubio.models.adapter.files import find_adapter
from dubio.models.bases.base import read_base
from dubio.models.checks.load_checks import TEXTS, TOLERANCE
from dubio.models.extraction import Extraction
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.base import Posterior
from dubio.posteriors.base_model import hashes_of, host_under
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.jacobians import LoraStructure, names_of
from dubio.posteriors.engine.linearised import LinearEngine
from dubio.posteriors.engine.prefix_cache import Trunks
from dubio.posteriors.engine.stack import AdapterStack
from dubio.posteriors.from_peft import stack_of
from dubio.posteriors.methods.head_ensemble import fit_heads
from dubio.posteriors.methods.laplace import Structure, fit_laplace, held_out_nll, searched
from dubio.posteriors.methods.laplace_lora import LaplaceLora, fit_laplace_lora
from dubio.posteriors.methods.mc_dropout import McDropout
from dubio.posteriors.methods.tfb import Tfb
from dubio.posteriors.sampling import Sampler, sample, sample_rows
from dubio.posteriors.store import Stored
from dubio.posteriors.training.parametrisation import facts_of

LINEAR_SAMPLES = 50  # of the linearised network, where more of them cost no passes
SEARCH_SAMPLES = 20  # the same, at each prior precision that is tried
HEAD_SAMPLES = 100  # of a last layer, while its prior precision is searched
SEARCH_ROWS = 200  # labelled rows that TFB's search looks at: a search of minutes, not hours


@dataclass(frozen=True)
class Source:
    """An adapter as a stack of one on its base."""

    stack: AdapterStack
    host: AdaptedModel
    rate: float
    adapter: str  # its hash

    @property
    def values(self) -> dict[str, Tensor]:
        """Its parameters `[1, ...]`."""
        return self.stack.tensors()

    @property
    def adapted(self) -> dict[str, Tensor]:
        """The same, less a head that is the base's own (of answer letters), which need not be kept again."""
        own = self.host.choices is not None
        return {name: value for name, value in self.values.items() if not (own and name.startswith("head/"))}


def read_adapter(model: AdaptedModel, folder: Path) -> Source:
    """The LoRA adapter under `folder` with its base, which `model` has proven.

    Raises DubioError where there is no adapter, or it is not plain LoRA; ProofError where the stack is another
    function.
    """
    files = find_adapter(folder)
    if files is None:
        raise DubioError(f"{folder} is a whole model; a posterior over adapters needs an adapter")
    loaded, tokenizer, _ = read_base(
        model.base, list(model.labels), "cpu", files.folder, model.choices, known_tokenizer=model.tokenizer
    )
    fit_embeddings(loaded, tokenizer, files)
    check_untouched(loaded, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = put_on(loaded, files.folder, model.choices)
    config: Any = adapted.peft_config["default"]
    host, stack = host_under(model), stack_of(adapted)
    prove_stack(StackEngine(host.model, host.site, stack.to(host.device), host.inputs), model)
    return Source(stack, host, float(getattr(config, "lora_dropout", 0.0)), model.hashes["adapter"])


def make_mc_dropout(source: Source, *, rate: float | None = None, masks: str = "sample") -> Stored:
    """rate: of the inputs of A that are dropped; None: as the adapter was trained. masks: see `McDropout`.

    Raises DubioError at a rate of 0: an adapter trained without dropout has none to keep on.
    """
    chosen = source.rate if rate is None else rate
    if not 0 < chosen < 1:
        raise DubioError(
            f"the adapter was trained with a dropout of {source.rate}, and MC-dropout at rate {chosen} never varies; "
            "set a rate between 0 and 1"
        )
    tensors = {f"mean|{name}": value for name, value in source.adapted.items()}
    return _stored("mc_dropout", McDropout(tensors, {"rate": chosen, "masks": masks, "seconds": 0.0}), source)


def make_tfb(source: Source, rows: LabelledTexts, *, tolerance: float = 0.003, samples: int = 10) -> Stored:
    """The largest noise under which the NLL of held-out `rows` (200 of them, by a fixed seed) rises by `tolerance`."""
    start = time.perf_counter()
    nll = _nll_of("tfb", source, rows, samples)
    found = Tfb.rotated(source.adapted).searched(nll, tolerance=tolerance)
    return _stored("tfb", found.with_facts(tolerance=tolerance, seconds=time.perf_counter() - start), source)


def make_laplace(
    source: Source, model: AdaptedModel, train: Representations, held: Representations | None = None, *,
    structure: Structure = "kron",
) -> Stored:  # fmt: skip
    """From the training rows' features. held: rows by whose NLL the prior precision is chosen; None: by the marginal
    likelihood.
    """
    start = time.perf_counter()
    found = fit_laplace(
        source.values, model.head, np.asarray(train.features), labels=train.known_labels, structure=structure,
        tau=None if held is None else 1.0,
    )  # fmt: skip
    if held is not None:
        nll = held_out_nll(model.head, np.asarray(held.features), held.known_labels, HEAD_SAMPLES)
        found = searched(found, nll, range(-3, 6))
    return _stored("laplace", found.with_facts(seconds=time.perf_counter() - start), source)


def make_heads(source: Source, model: AdaptedModel, rows: Representations, *, members: int = 10) -> Stored:
    """Heads trained apart on the features of labelled rows. Raises DubioError where the head is not trained at all."""
    if source.host.choices is not None:
        raise DubioError("the head of answer letters is the LM head's own; heads of its own are for classifiers")
    start = time.perf_counter()
    found = fit_heads(source.values, model.head, np.asarray(rows.features), rows.known_labels, members=members)
    stored = _stored("heads", found.with_facts(seconds=time.perf_counter() - start), source)
    return replace(stored, samples=members)


def make_laplace_lora(
    source: Source, train: LabelledTexts, held: LabelledTexts | None = None, *, structure: LoraStructure = "kron",
    linear: bool = True, samples: int | None = None,
) -> Stored:  # fmt: skip
    """Curvature of every A and B on the training rows. held: rows (200 of them) by whose NLL the prior precision is
    chosen; None: by the marginal likelihood. linear: draws predict by the linearised network, else by themselves.
    samples: how many (default: 50 linear ones, which cost no passes of their own, else 10).
    """
    start, count = time.perf_counter(), samples or (LINEAR_SAMPLES if linear else LaplaceLora.samples)
    host = source.host
    engine = StackEngine(host.model, host.site, source.stack.to(host.device), host.inputs)
    found = fit_laplace_lora(engine, host, train, structure=structure, tau=None if held is None else 1.0)
    found = found.with_facts(linear=linear)
    if held is not None and linear:
        found = found.searched(_linear_nlls(source, engine, held))
    elif held is not None:
        nll = _nll_of("laplace_lora", source, held, count)
        found = found.searched(lambda posteriors: [nll(posterior) for posterior in posteriors])
    own = {f"mean|{name}" for name in source.values} - {f"mean|{name}" for name in source.adapted}
    found = LaplaceLora({name: value for name, value in found.tensors.items() if name not in own}, found.facts)
    stored = _stored("laplace_lora", found.with_facts(seconds=time.perf_counter() - start), source)
    return replace(stored, samples=count)


def prove_stack(engine: StackEngine, model: AdaptedModel) -> None:
    """Raises ProofError unless a stack of one gives the logits of the adapter that it was read from.

    So nothing that peft trains and a stack does not hold (biases, tokens, whatever comes) can go unseen.
    """
    batch = pad(tokenize(model, list(TEXTS), None), model)
    expected = model.forward(batch)[1].cpu()
    found = engine.predict(batch)[0].cpu()
    gap = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not gap <= TOLERANCE[model.precision]:
        raise ProofError(
            f"the adapter is not what a stack can hold: its logits differ by {gap:.2g} of the largest from those of "
            "its A, B and head alone; score it without a posterior"
        )


def _nll_of(name: str, source: Source, rows: LabelledTexts, samples: int) -> Callable[[Posterior], float]:
    """Posterior -> NLL of its mean prediction on SEARCH_ROWS of the rows, drawn by a fixed seed."""
    texts, pairs, labels = _searched_rows(rows)
    trunks = Trunks()

    def nll(posterior: Posterior) -> float:
        count = 1 if posterior.facts.get("sigma") == 0 else samples  # without noise all samples are one
        sampler = Sampler(source.host, _stored(name, posterior, source), count, trunks=trunks)
        mean = log_mean(sample(sampler, texts, pairs, Extraction(show=False)))
        return -float(mean[np.arange(len(labels)), labels].mean())

    return nll


def _linear_nlls(
    source: Source, engine: StackEngine, rows: LabelledTexts
) -> Callable[[Sequence[LaplaceLora]], list[float]]:
    """As `_nll_of`, of several posteriors of one adapter by the Jacobians of one pass. engine: with the adapter."""
    texts, pairs, labels = _searched_rows(rows)

    def nlls(posteriors: Sequence[LaplaceLora]) -> list[float]:
        draws = [posterior.draw(SEARCH_SAMPLES) for posterior in posteriors]
        joined = {name: torch.cat([own[name] for own in draws]) for name in names_of(draws[0])}
        sampler = Sampler(source.host, _stored("laplace_lora", posteriors[0], source))
        table = sample_rows(sampler, LinearEngine.around(engine, joined), texts, pairs, Extraction(show=False))[1]
        means = [log_mean(part) for part in np.split(table, len(posteriors))]
        return [-float(mean[np.arange(len(labels)), labels].mean()) for mean in means]

    return nlls


def _searched_rows(rows: LabelledTexts) -> tuple[list[str], list[str] | None, Int64]:
    at, second = np.sort(np.random.default_rng(0).permutation(len(rows.texts))[:SEARCH_ROWS]), rows.pairs
    pairs = None if second is None else [second[int(i)] for i in at]
    return [rows.texts[int(i)] for i in at], pairs, rows.labels[at]


def _stored(name: str, posterior: Posterior, source: Source) -> Stored:
    frozen = source.host.choices is not None and name != "laplace"  # which is a posterior of the head itself
    known = posterior.with_facts(adapter_sha256=source.adapter)
    return Stored(name, known, facts_of(source.stack, frozen=frozen), hashes_of(source.host), posterior.samples)
