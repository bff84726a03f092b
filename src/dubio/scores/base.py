"""What every post-hoc score is: a validated config, `fit`, `score`, and a state of plain arrays.

A method subclasses `Score`, names its learned arrays in `learned`, and writes `_fit` and `_score`; checks, chunked
scoring, saving and the refusal of non-finite numbers are done here, once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from dubio.arrays import Float64, check_finite
from dubio.containers import Representations
from dubio.errors import DubioError, NotFittedError
from dubio.scores.stored import check_arrays

CHUNK = 16384  # rows scored at a time: bounds memory whatever the table's length
FOLDS = 5


class MethodConfig(BaseModel):
    """Options of one method: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class State:
    """Everything a fitted method needs to score again: arrays (safetensors) and facts (JSON)."""

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Score(ABC):
    """One uncertainty score over one forward pass: higher = more likely wrong.

    Learned attributes end in `_`. `head` is the model's classification head (a torch module, features -> logits);
    only methods that retrain it look at it.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    learned: ClassVar[tuple[str, ...]] = ()
    # Of each of them, as in "C d": sides of one letter are alike. Left out, only their numbers are looked at.
    shapes: ClassVar[tuple[str, ...]] = ()
    # True where fitting learns from calibration rows: such a method's scores of those very rows flatter it.
    uses_calibration: ClassVar[bool] = False

    def __init__(self, config: MethodConfig | None = None, *, head: Any = None) -> None:
        self.config: Any = config if config is not None else self.Config()
        if not isinstance(self.config, self.Config):
            raise DubioError(f"{type(self).__name__} takes {self.Config.__qualname__}, not {type(config).__name__}")
        self.head = head
        self.facts_: dict[str, Any] = {}
        self._fitted = False

    @classmethod
    def with_options(cls, options: Mapping[str, Any], *, head: Any = None) -> Self:
        """Builds from plain options; raises DubioError naming the first option that is wrong."""
        try:
            config = cls.Config.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DubioError(f"{cls.__name__}: option {place}: {first['msg']}") from error
        return cls(config, head=head)

    def fit(self, train: Representations | None, calibration: Representations | None = None) -> Self:
        """Learns from the adapter's own training rows and from held-out rows, whichever the method needs.

        Raises DubioError where a needed table or its labels are missing. Returns self.
        """
        for name, table in (("train", train), ("calibration", calibration)):
            if table is not None:
                if len(table) == 0:
                    raise DubioError(f"{name} has no rows; give at least a few hundred")
                check_finite(table.features, f"{name} features")
                check_finite(table.logits, f"{name} logits")
        self.facts_ = {}
        self._fit(train, calibration)
        self._fitted = True
        return self

    def score(self, rows: Representations) -> Float64:
        """Uncertainty `[N]` of each row, float64; raises DubioError on NaN or infinity going in or coming out."""
        return self._by_chunk(rows, lambda part, _: self._score(part))

    def _by_chunk(self, rows: Representations, score: Callable[[Representations, slice], Float64]) -> Float64:
        """What `score` gives each chunk of rows and its place, checked on the way in and out."""
        self.check_fitted()
        out = np.empty(len(rows), dtype=np.float64)
        for start in range(0, len(rows), CHUNK):
            where = slice(start, start + CHUNK)
            part = rows.take(where)
            for name in ("features", "logits"):
                if not np.isfinite(getattr(part, name).sum(dtype=np.float64)):
                    check_finite(getattr(rows, name), name)  # the whole table: the row named must be the caller's
            try:
                out[where] = score(part, where)
            except (ValueError, IndexError, RuntimeError, OverflowError) as error:
                if isinstance(error, DubioError):
                    raise
                raise DubioError(
                    f"{type(self).__name__} does not fit rows of {rows.features.shape[1]} features and {rows.classes} "
                    f"classes ({str(error).splitlines()[0][:120] if str(error) else type(error).__name__}); fit again"
                ) from error
        check_finite(out, f"uncertainty of {type(self).__name__}")
        return out

    def out_of_fold(self, train: Representations | None, calibration: Representations) -> Float64:
        """Honest uncertainty `[N]` of the calibration rows: from K refits, each blind to the rows it scores.

        Methods that never read calibration labels simply score them.
        """
        if not self.uses_calibration:
            return self.score(calibration)
        out = np.empty(len(calibration), dtype=np.float64)
        folds = fold_of(calibration)
        for fold in range(FOLDS):
            refit = type(self)(self.config, head=self.head)
            refit.fit(train, calibration.take(folds != fold))
            out[folds == fold] = refit.score(calibration.take(folds == fold))
        return out

    def log_probabilities(self, rows: Representations) -> Float64 | None:
        """`[N, C]` of a method that changes the adapter's probabilities, by which it is judged as a system; else None.

        Raises NotFittedError before `fit`.
        """
        return None

    def state(self) -> State:
        """What `restore` needs, as arrays and JSON facts."""
        self.check_fitted()
        return State({name: np.ascontiguousarray(getattr(self, name)) for name in self.learned}, dict(self.facts_))

    def restore(self, state: State) -> Self:
        """Becomes the fitted method that `state` came from; raises DubioError on arrays that it has never learned."""
        shapes = dict(zip_longest(self.learned, self.shapes[: len(self.learned)]))
        for name, array in check_arrays(state.arrays, shapes, type(self).__name__).items():
            setattr(self, name, array)
        self.facts_ = dict(state.facts)
        self._fitted = True
        return self

    def same_as(self, other: "Score") -> bool:
        """Whether the two give any row the same score, to the bit: fitted scores of one class, config and state."""
        if type(self) is not type(other) or self.config != other.config:
            return False
        own, its = self.state(), other.state()
        return (
            own.facts == its.facts
            and own.arrays.keys() == its.arrays.keys()
            and all(np.array_equal(array, its.arrays[name]) for name, array in own.arrays.items())
        )

    def check_fitted(self) -> None:
        """Raises NotFittedError before `fit` or `restore`."""
        if not self._fitted:
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(train, calibration) first")

    @abstractmethod
    def _fit(self, train: Representations | None, calibration: Representations | None) -> None: ...

    @abstractmethod
    def _score(self, rows: Representations) -> Float64: ...


def needed(table: Representations | None, name: str, method: Score) -> Representations:
    """The table, or a DubioError that says which split the method lacks."""
    if table is None:
        raise DubioError(f"{type(method).__name__} needs the {name} split; give it, or leave this method out")
    return table


def fold_of(table: Representations, folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """`[N]` fold numbers, stratified over right and wrong rows so that every fold can be judged.

    Rows of one group share a fold; a group with any error counts as wrong.
    Raises DubioError where there are fewer errors, or fewer right rows, than folds.
    """
    errors, unit = table.units
    if min(errors.sum(), (~errors).sum()) < folds:
        if len(errors) < len(table):
            raise DubioError(
                f"{len(table)} rows, {int(table.errors.sum())} of them wrong, are {len(errors)} groups of rows that "
                f"belong together: {int(errors.sum())} with an error and {int((~errors).sum())} without are too few "
                f"for {folds} folds; give more varied calibration rows, or other groups (--groups COLUMN or none, in "
                "Python extract(..., groups=...))"
            )
        raise DubioError(
            f"{int(errors.sum())} wrong and {int((~errors).sum())} right rows are too few for {folds} folds; "
            "give more calibration rows"
        )
    generator = np.random.default_rng(seed)
    out = np.empty(len(errors), dtype=np.int64)
    for kind in (errors, ~errors):
        dealt = generator.permutation(np.flatnonzero(kind))
        out[dealt] = np.arange(len(dealt)) % folds
    return out[unit]
