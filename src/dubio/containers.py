"""What flows between the rooms: `Representations` into a score, `Scores` out of it. Frozen, checked, plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from dubio.arrays import Bool, Float32, Float64, Int64, as_labels, as_matrix, as_samples, as_vector
from dubio.errors import DubioError


@dataclass(frozen=True)
class Shape:
    """Of the tables of one model: width d of the features, number of classes C, and of samples S by posterior.

    width None: not known, as of what was fitted by an older version.
    """

    width: int | None
    classes: int
    samples: Mapping[str, int] = field(default_factory=dict[str, int])

    def check(self, rows: "Representations", here: str = "at the fit", there: str = "here") -> None:
        """Raises DubioError, before any arithmetic, on rows of another shape than this. here, there: whose is whose.

        Samples that only one of the two has are no matter.
        """
        found = rows.shape
        pairs = [("columns of features", self.width, found.width), ("classes", self.classes, found.classes)]
        pairs += [
            (f"samples of {name}", size, found.samples.get(name, size)) for name, size in self.samples.items()
        ]  # fmt: skip
        for what, expected, given in pairs:
            if expected is not None and expected != given:
                raise DubioError(f"{what}: {given} {there}, and {expected} {here}; both must come from one model")


@dataclass(frozen=True)
class Representations:
    """What one forward pass of an adapted model leaves behind, for N rows.

    features: `[N, d]` float32, the input of the classification head.
    logits: `[N, C]` float32, the head's output.
    labels: `[N]` int64 class indices, or None where nobody knows them.
    groups: `[N]` int64, rows that repeat or nearly repeat one another share a number; None: every row is its own.
    Cross-validation keeps a group in one fold, since a method that saw a row's twin has seen the row.
    samples: posterior's name -> `[S, N, C]` float32 log-probabilities of S adapters drawn from it.
    mean_of: the posterior whose mean features and mean prediction these are; None: the adapter's own.
    pairs: whether the rows were texts with a second text each; None where nobody knows, as of bare arrays.
    """

    features: Float32
    logits: Float32
    labels: Int64 | None = None
    groups: Int64 | None = None
    samples: Mapping[str, Float32] = field(default_factory=dict[str, Float32])
    mean_of: str | None = None
    pairs: bool | None = None

    @classmethod
    def of(
        cls,
        features: Any,
        logits: Any,
        labels: Any = None,
        groups: Any = None,
        samples: Mapping[str, Any] | None = None,
        mean_of: str | None = None,
    ) -> Self:
        """Checks arrays or tensors and wraps them.

        Raises DubioError on NaN or infinity (naming the row), shapes that do not match, labels outside the classes,
        probabilities in the place of logits, samples that are no log-probabilities.
        """
        z, out = as_matrix(features, "features"), as_matrix(logits, "logits")
        if len(z) != len(out):
            raise DubioError(f"features have {len(z)} rows and logits {len(out)}; they must describe the same rows")
        if out.shape[1] < 2:
            raise DubioError("logits: expected at least two classes (one column each)")
        _refuse_probabilities(out)
        y = None if labels is None else as_labels(labels, "labels", len(z), out.shape[1])
        tables = {name: as_samples(table, name, out.shape) for name, table in (samples or {}).items()}
        return cls(z, out, y, None if groups is None else as_labels(groups, "groups", len(z)), tables, mean_of)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @property
    def predictions(self) -> Int64:
        """`[N]` predicted classes, the argmax of the logits (the first, under a tie)."""
        return np.argmax(self.logits, axis=1).astype(np.int64)

    @property
    def known_labels(self) -> Int64:
        """`[N]` labels; raises DubioError where there are none."""
        if self.labels is None:
            raise DubioError("these rows carry no labels, and this step needs them; name the label column")
        return self.labels

    @property
    def errors(self) -> Bool:
        """`[N]` True where the prediction differs from the label; raises DubioError without labels."""
        return self.predictions != self.known_labels

    @property
    def units(self) -> tuple[Bool, Int64]:
        """What folds are dealt of: errors `[U]`, whether a group holds one, and `[N]` which group each row is in."""
        if self.groups is None:
            return self.errors, np.arange(len(self), dtype=np.int64)
        ids, unit = np.unique(self.groups, return_inverse=True)
        return np.bincount(unit, weights=self.errors, minlength=len(ids)) > 0, unit.astype(np.int64)

    @property
    def shape(self) -> Shape:
        """What all tables of one model have in common."""
        return Shape(self.features.shape[1], self.classes, {name: len(table) for name, table in self.samples.items()})

    def take(self, rows: Any) -> "Representations":
        """The chosen rows (a slice, indices, or a mask), copied out of any memory map."""
        labels, groups = (None if values is None else values[rows] for values in (self.labels, self.groups))
        features, logits = (np.require(table[rows], requirements="W") for table in (self.features, self.logits))
        samples = {name: np.asarray(table[:, rows]) for name, table in self.samples.items()}
        return Representations(
            np.asarray(features), np.asarray(logits), labels, groups, samples, self.mean_of, self.pairs
        )


@dataclass(frozen=True)
class Scores:
    """One method's verdict on N rows: higher uncertainty = more likely wrong.

    uncertainty: `[N]` float64 in the method's own units, comparable only within the method.
    error_probability: `[N]` float64 in [0, 1], calibrated, or None before a recalibration was fitted.
    """

    method: str
    uncertainty: Float64
    error_probability: Float64 | None = None

    @classmethod
    def of(cls, method: str, uncertainty: Any, error_probability: Any = None) -> Self:
        """Checks and wraps; raises DubioError on NaN or infinity (naming the row) or probabilities outside [0, 1]."""
        u = as_vector(uncertainty, f"uncertainty of {method}")
        if error_probability is None:
            return cls(method, u)
        p = as_vector(error_probability, f"error probability of {method}", len(u))
        if len(p) and (p.min() < 0 or p.max() > 1):
            raise DubioError(f"error probability of {method}: outside [0, 1]")
        return cls(method, u, p)

    def __len__(self) -> int:
        return len(self.uncertainty)


def _refuse_probabilities(logits: Float32) -> None:
    """Raises DubioError where every row lies in [0, 1] and sums to 1: a softmax of probabilities is nearly flat.

    Logits of one row may do so by chance, so that a single row must do so to float32's last digits.
    """
    if len(logits) == 0 or logits.min() < 0 or logits.max() > 1:
        return
    near = 1e-3 if len(logits) > 1 else 1e-6  # probabilities in half precision are rounded
    if (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < near).all():
        raise DubioError(
            "logits: every row lies in [0, 1] and sums to 1, as probabilities do; pass the logits, or the logarithm of "
            "the probabilities"
        )


def check_representations(value: Any, name: str) -> None:
    """Raises DubioError where somebody gives a path, a table or texts in the place of what a model made of them."""
    if not isinstance(value, Representations):
        kind = type(value).__name__
        raise DubioError(f"{name} must be representations, not {kind}; extract first: dubio.extract(model, rows)")


def concatenate(parts: list[Representations]) -> Representations:
    """Rows of several tables one after another, without groups; labels and samples survive if every part has them."""
    if not parts:
        raise DubioError("nothing to concatenate: no table of representations was given")
    if len({(p.features.shape[1], p.classes, p.mean_of) for p in parts}) > 1:
        raise DubioError("tables of representations differ in width or classes; they come from different models")
    labels = [p.labels for p in parts if p.labels is not None]
    shared = [name for name in parts[0].samples if all(name in p.samples for p in parts)]
    return Representations(
        np.concatenate([p.features for p in parts]),
        np.concatenate([p.logits for p in parts]),
        np.concatenate(labels) if len(labels) == len(parts) else None,
        samples={name: np.concatenate([p.samples[name] for p in parts], axis=1) for name in shared},
        mean_of=parts[0].mean_of,
        pairs=parts[0].pairs if len({p.pairs for p in parts}) == 1 else None,
    )
