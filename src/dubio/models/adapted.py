"""A proven classifier that any number of threads may run: a base with its adapter, tokenizer and head."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from dubio.errors import ProofError
from dubio.models.head_location import Site
from dubio.models.threads import alone, catching, keeps_state, settle, together
from dubio.models.tokens.answer_letters import Choices
from dubio.models.tokens.prompt_learning import is_prompted, run_prompted

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


@dataclass(frozen=True)
class AdaptedModel:
    """A proven classifier: frozen, in eval mode. labels: class names in the order of logits.

    hashes: what identifies base, adapter, head and tokenizer, for cache keys. kind: PEFT's name of the method, or none.
    inputs: what the base takes of a tokenizer's output. choices: of a model that answers by letters, its prompts.
    unread: ids of tokens whose embedding is stored nowhere, so that no text may hold them.
    """

    model: nn.Module
    tokenizer: Any
    site: Site
    labels: tuple[str, ...]
    device: str
    precision: str
    max_length: int
    base: str
    kind: str
    family: str
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    inputs: frozenset[str] = INPUTS
    choices: Choices | None = None
    unread: frozenset[int] = frozenset()

    @property
    def head(self) -> nn.Sequential:
        """The classification head, an independent float32 copy: features -> logits."""
        return self.site.head

    @cached_property
    def _keeps_state(self) -> bool:
        return keeps_state(self.model)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `[n, d]` and logits `[n, C]` of a padded batch, float32; logits are the float32 head's."""
        features, _ = self.run(batch)
        with torch.inference_mode():
            return features, self.head(features.cpu()).to(features.device)

    def run(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `[n, d]` float32, and the logits `[n, C]` that the model itself computed; from any thread."""
        inputs = {key: value for key, value in batch.items() if key in self.inputs}
        decoder = self.site.pooling == "last"
        positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0) if decoder else None
        settle(self.device)
        turn = alone if self._keeps_state else together
        with turn(self.site.module), catching(self.site.module) as seen, torch.inference_mode():
            if isinstance(self.model, PeftModel) and is_prompted(self.model):
                output = run_prompted(self.model, inputs, positions)
            else:
                output = self.model(**inputs, **({} if positions is None else {"position_ids": positions}))
        if not seen:
            raise ProofError(f"{self.family}: the model goes past its head, so dubio cannot see what enters it")
        return self.site.pool(seen[-1], batch), output.logits.float()
