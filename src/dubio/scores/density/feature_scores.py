"""Where a density looks: at what enters the classification head, or at the head's hidden layer, spectrally normalised.

    z' = act(W z / sigma(W) + b),    sigma(W): the largest singular value of the dense layer's weights

AdUE's authors score encoders (RoBERTa, ELECTRA) on z' and decoders on z; a head without a dense layer has its input as
z'. Divided by sigma, the layer stretches no distance. They take 64 power iterations for sigma; here it is exact. The
adapter itself is trained without it.

Papers: Liu et al. 2020 (arXiv 2006.10108); Vazhentsev et al. 2022 (ACL); AdUE, arXiv 2505.15443 (its code).
"""

from dataclasses import replace
from typing import Any, Self

from numpy.typing import NDArray

from dubio.containers import Representations
from dubio.scores.base import Score, State

PREFIX = "hidden."


class OnFeatures(Score):
    """Base of the scores of features alone. Raises DubioError at fit where `space` is hidden and no head is given.

    hidden_: the head below its last layer, or None where the features are looked at as they are.
    """

    hidden_: Any = None  # a torch module

    def fit(self, train: Representations | None, calibration: Representations | None = None) -> Self:
        """As any score's; the head's layers are kept with what is learned."""
        if self.config.space != "hidden":
            self.hidden_ = None
            return super().fit(train, calibration)
        from dubio.scores.density import hidden_layers  # torch is needed here only

        self.hidden_ = hidden_layers.of(self.head)
        super().fit(train, calibration)
        if self.hidden_ is not None:
            self.facts_ = {**self.facts_, "hidden": hidden_layers.head_spec(self.hidden_)}
        return self

    def seen(self, rows: Representations) -> Representations:
        """The rows with the features that this score looks at."""
        if self.hidden_ is None:
            return rows
        from dubio.scores.density import hidden_layers

        return replace(rows, features=hidden_layers.run(self.hidden_, rows.features))

    def hidden_arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore` needs of the layers."""
        if self.hidden_ is None:
            return {}
        from dubio.scores.density import hidden_layers

        found = hidden_layers.head_arrays(self.hidden_)
        return {PREFIX + name: value for name, value in found.items()}

    def state(self) -> State:
        """As any score's, with the layers' arrays."""
        own = super().state()
        return State({**own.arrays, **self.hidden_arrays()}, own.facts)

    def restore(self, state: State) -> Self:
        """As any score's; the head itself is not needed again."""
        self.hidden_ = None
        if state.facts.get("hidden"):
            from dubio.scores.density import hidden_layers

            own = {name[len(PREFIX) :]: v for name, v in state.arrays.items() if name.startswith(PREFIX)}
            self.hidden_ = hidden_layers.stored_head(state.facts["hidden"], own)
        return super().restore(state)
