"""Every post-hoc score by name: what it needs, what it costs, which paper. The CLI, docs and tests read this list.

Classes are named by path and imported only when built, so that listing them costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from dubio.errors import DubioError
from dubio.scores.base import Score


@dataclass(frozen=True)
class Method:
    """One registered method: `name` is its key everywhere, `target` its class as `room.module:Class`.

    needs: what fitting and scoring take, of logits, features, head, train and calibration.
    """

    name: str
    title: str
    target: str
    needs: tuple[str, ...]
    cost: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def control(self) -> bool:
        """Whether it is compared but never chosen: a better classifier, not a notion of uncertainty."""
        return self.target.endswith(":RefittedHead")

    def build(self, head: Any = None, **overrides: Any) -> Score:
        """An unfitted instance; `head` is the model's classification head (a torch module) or None."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(f"dubio.scores.{module}"), name).with_options(
            {**self.options, **overrides}, head=head
        )


METHODS: dict[str, Method] = {}


def register(name: str, title: str, target: str, info: tuple[str, str, str], **options: Any) -> None:
    """Adds one method; `info` is (needs, cost, paper). Raises DubioError on a name already taken."""
    if name in METHODS:
        raise DubioError(f"method {name!r} is registered twice")
    needs, cost, paper = info
    METHODS[name] = Method(name, title, target, tuple(needs.split(", ")), cost, paper, options)


_MEASURES = {
    "response": ("softmax response of the mean", "Lakshminarayanan et al. 2017"),
    "temperature": ("temperature-scaled response of the mean", "Guo et al. 2017"),
    "entropy": ("predictive entropy", "Depeweg et al. 2018"),
    "expected_entropy": ("expected entropy", "Depeweg et al. 2018"),
    "mutual_information": ("mutual information", "Houlsby et al. 2011"),
    "variance": ("largest class variance", "BayesLoRA, arXiv 2506.22809"),
    "variation_ratio": ("variation ratio", "Freeman 1965"),
    "distilled": ("response of the mean, distilled into one pass", "dubio; Hinton et al. 2015"),
}


def sampled_names(posterior: str) -> list[str]:
    """Names of the measures of a posterior's samples, as `get_method` knows them."""
    return [f"{posterior}.{measure}" for measure in _MEASURES]


def is_method(name: str) -> bool:
    """Whether there is such a method, registered or a measure of a posterior's samples."""
    return name in METHODS or ("." in name and name.rpartition(".")[2] in _MEASURES)


def get_method(name: str) -> Method:
    """The registered method, or POSTERIOR.MEASURE; raises DubioError listing the known names."""
    posterior, _, measure = name.rpartition(".")
    if posterior and measure in _MEASURES:
        title, paper = _MEASURES[measure]
        title, samples = f"{posterior}: {title}", "the samples' passes"
        if measure == "temperature":
            target, needs = "sampled.posterior_temperature:ScaledSamples", ("samples", "calibration")
            return Method(name, title, target, needs, samples, paper, {"posterior": posterior})
        if measure == "distilled":
            target, needs = "learned.distilled:Distilled", ("features", "samples", "calibration")
            return Method(
                name, title, target, needs, f"none; {samples} over calibration", paper, {"teacher": posterior}
            )
        options = {"posterior": posterior, "measure": measure}
        return Method(name, title, "sampled.posterior_measures:SampledScore", ("samples",), samples, paper, options)
    if name not in METHODS:
        raise DubioError(f"no method named {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]


def _logits() -> None:
    free = "none"
    register("softmax_response", "Softmax response", "logits.softmax_response:SoftmaxResponse",
             ("logits", free, "Geifman & El-Yaniv 2017"))  # fmt: skip
    register("entropy", "Entropy", "logits.entropy:Entropy", ("logits", free, "Hendrycks & Gimpel 2017"))
    register("margin", "Margin", "logits.margin:Margin", ("logits", free, "Scheffer et al. 2001"))
    register("energy", "Energy", "logits.energy:Energy", ("logits", free, "Liu et al. 2020"))
    register("temperature", "Temperature-scaled response", "logits.temperature:TemperatureScaledResponse",
             ("logits, calibration", "one scalar search", "Guo et al. 2017"))  # fmt: skip


def _densities() -> None:
    once, robust = "one pass over train", "seconds: kernel PCA and MCD"
    for name, title, target, cost, paper in (
        ("md", "Mahalanobis distance", "density.md:MD", once, "Lee et al. 2018"),
        ("rmd", "Relative Mahalanobis", "density.rmd:RMD", once, "Ren et al. 2021"),
        ("rde", "Robust density", "density.rde:RDE", robust, "Yoo et al. 2022"),
        ("ddu", "DDU", "density.ddu:DDU", once, "Mukhoti et al. 2021"),
    ):
        register(name, title, target, ("features, train", cost, paper))
        register(f"{name}_norm", f"{title}, L2-normalised", target, ("features, train", cost, paper), normalize=True)
    register("knn", "k nearest neighbours", "density.knn:KNN", ("features, train", "keeps the train features",
             "Sun et al. 2022"), normalize=True)  # fmt: skip
    for inner in ("md", "ddu"):
        register(f"huq_{inner}", f"HUQ with {inner.upper()}", "density.huq:HUQ",
                 ("features, train, calibration", "275 mixtures of ranks", "Vazhentsev et al. 2023"),
                 epistemic=inner)  # fmt: skip


def _learned() -> None:
    grid, paper = "144 heads as one stack: seconds", "AdUE, arXiv 2505.15443"
    for suffix, title, needs, options in (
        ("", "AdUE on train errors, guarded", "train, calibration", {"fit": "train", "guard": True}),
        ("_unguarded", "AdUE on train errors", "train, calibration", {"fit": "train"}),
        ("_balanced", "AdUE on train errors, balanced", "train, calibration", {"fit": "train", "balance": "resample"}),
        ("_calibration", "AdUE on calibration errors, guarded", "calibration", {"fit": "calibration", "guard": True}),
        ("_cross_fitted", "AdUE cross-fitted, guarded", "train, calibration", {"fit": "both", "guard": True}),
    ):
        register(f"adue{suffix}", title, "learned.adue:AdUE", (f"head, {needs}", grid, paper), **options)
    newton = "a ridge path by Newton: seconds"
    for suffix, title, needs, options in (
        ("", "Anchored probe on calibration", "calibration", {"fit": "calibration"}),
        ("_both", "Anchored probe on train and calibration", "train, calibration", {"fit": "both"}),
        ("_guarded", "Anchored probe on both, guarded", "train, calibration", {"fit": "both", "guard": True}),
        ("_classwise", "Anchored probe, class-conditional", "train, calibration",
         {"fit": "both", "class_directions": True}),
    ):  # fmt: skip
        register(f"probe{suffix}", title, "learned.anchored_probe:AnchoredProbe",
                 (f"features, {needs}", newton, "dubio"), **options)  # fmt: skip
    for fit, needs in (("train", "train, calibration"), ("calibration", "calibration"), ("both", "train, calibration")):
        register(f"refitted_{fit}", f"Refitted head on {fit} (control)", "learned.refitted_head:RefittedHead",
                 (f"features, {needs}", "a logistic regression", "dubio (control)"), fit=fit)  # fmt: skip


_logits()
_densities()
_learned()
