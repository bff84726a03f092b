"""Every posterior by name: its class, how it is made, what it costs, which paper. The CLI, docs and tests read this."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dubio.errors import DubioError


@dataclass(frozen=True)
class PosteriorEntry:
    """name: its key everywhere. target: class, as `module:Class`. trained: by a run of its own, or onto an adapter."""

    name: str
    title: str
    target: str
    trained: bool
    cost: str
    paper: str

    def load(self) -> Any:
        """The class."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(f"dubio.posteriors.methods.{module}"), name)


POSTERIORS: dict[str, PosteriorEntry] = {
    entry.name: entry
    for entry in (
        PosteriorEntry("ensemble", "LoRA ensemble", "ensemble:Ensemble", True, "M trainings at once, M adapters",
                       "arXiv 2402.12264"),
        PosteriorEntry("kfold", "K-fold adapters", "kfold:KFold", True, "K trainings at once, K adapters",
                       "arXiv 1905.02928"),
        PosteriorEntry("swag_lora", "SWAG-LoRA", "swag:Swag", True, "one training; |A, B| (k + 2) numbers",
                       "arXiv 2405.03425"),
        PosteriorEntry("swag_lora_xs", "B-LoRA-XS", "swag:Swag", True, "one training; r^2 (k + 2) numbers a layer",
                       "arXiv 2502.12122"),
        PosteriorEntry("blob", "BLoB", "blob:Blob", True, "one training; |A| more numbers", "arXiv 2406.11675"),
        PosteriorEntry("rank_dropout", "Rank-wise variational dropout", "rank_dropout:RankDropout", True,
                       "one training; r more numbers a layer", "BayesLoRA v3, arXiv 2506.22809"),
        PosteriorEntry("mc_dropout", "MC-dropout in the adapter", "mc_dropout:McDropout", False, "nothing to train",
                       "BayesLoRA, arXiv 2506.22809"),
        PosteriorEntry("heads", "Ensemble of heads", "head_ensemble:HeadEnsemble", False,
                       "seconds; one pass for all samples", "arXiv 1612.01474"),
        PosteriorEntry("tfb", "TFB", "tfb:Tfb", False, "a search of minutes", "arXiv 2412.05723"),
        PosteriorEntry("laplace", "Last-layer Laplace", "laplace:Laplace", False, "one pass over train",
                       "arXiv 2106.14806, 2308.13111"),
        PosteriorEntry("laplace_lora", "Laplace-LoRA", "laplace_lora:LaplaceLora", False,
                       "C passes back over train, and for each scored row",
                       "arXiv 2308.13111"),
    )
}  # fmt: skip


def get_posterior(name: str) -> PosteriorEntry:
    """The registered posterior; raises DubioError listing the known names."""
    if name not in POSTERIORS:
        raise DubioError(f"no posterior named {name!r}; known: {', '.join(POSTERIORS)}")
    return POSTERIORS[name]
