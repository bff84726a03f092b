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
    """One registered method: `name` is its key everywhere, `target` its class as `module:Class`."""

    name: str
    title: str
    target: str
    needs: str
    cost: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

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
    METHODS[name] = Method(name, title, target, *info, options=options)


def get_method(name: str) -> Method:
    """The registered method; raises DubioError listing the known names."""
    if name not in METHODS:
        raise DubioError(f"no method named {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]


_FREE = "none"
register("softmax_response", "Softmax response", "softmax_response:SoftmaxResponse",
         ("logits", _FREE, "Geifman & El-Yaniv 2017"))  # fmt: skip
register("entropy", "Entropy", "entropy:Entropy", ("logits", _FREE, "Hendrycks & Gimpel 2017"))
register("margin", "Margin", "margin:Margin", ("logits", _FREE, "Scheffer et al. 2001"))
register("energy", "Energy", "energy:Energy", ("logits", _FREE, "Liu et al. 2020"))
register("temperature", "Temperature-scaled response", "temperature:TemperatureScaledResponse",
         ("calibration", "one scalar search", "Guo et al. 2017"))  # fmt: skip

_HEAD, _ERRORS = "144 heads as one stack: seconds to a minute", "calibration errors"
_ADUE, _OURS = "AdUE, arXiv 2505.15443", "dubio"
for _suffix, _fit, _note in (("", "train", "train errors"), ("_calibration", "calibration", _ERRORS),
                             ("_cross_fitted", "both", "train and calibration errors")):  # fmt: skip
    register(f"adue{_suffix}", f"AdUE on {_note}, guarded", "adue:AdUE",
             (f"head, {_note}", _HEAD, _ADUE), fit=_fit, guard=True)  # fmt: skip
register("adue_unguarded", "AdUE on train errors", "adue:AdUE", ("head, train errors", _HEAD, _ADUE), fit="train")
register("adue_balanced", "AdUE on train errors, balanced", "adue:AdUE",
         ("head, train errors", _HEAD, _ADUE), fit="train", balance="resample")  # fmt: skip
for _suffix, _fit, _note in (("", "calibration", _ERRORS), ("_both", "both", "train and calibration errors")):
    register(f"probe{_suffix}", f"Anchored probe on {_note}", "anchored_probe:AnchoredProbe",
             (f"features, {_note}", "a ridge path by Newton: seconds", _OURS), fit=_fit)  # fmt: skip
register("probe_classwise", "Anchored probe, class-conditional", "anchored_probe:AnchoredProbe",
         ("features, train and calibration errors", "a ridge path by Newton: tens of seconds", _OURS),
         fit="both", class_directions=True)  # fmt: skip
register("probe_guarded", "Anchored probe on both, guarded", "anchored_probe:AnchoredProbe",
         ("features, train and calibration errors", "a ridge path by Newton: seconds", _OURS),
         fit="both", guard=True)  # fmt: skip
for _fit in ("train", "calibration", "both"):
    register(f"refitted_{_fit}", f"Refitted head on {_fit} (control)", "refitted_head:RefittedHead",
             ("features, labels", "a logistic regression", "control, DESIGN 9"), fit=_fit)  # fmt: skip
