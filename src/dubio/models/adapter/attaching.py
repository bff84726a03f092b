"""An adapter put on its base by peft: at load, and wherever the same adapter is needed a second time."""

from pathlib import Path
from typing import Any, cast

from peft import PeftConfig, PeftModel
from torch import nn

from dubio.models.adapter.patterns import check_patterns
from dubio.models.tokens.answer_letters import Choices
from dubio.safe_reading import read_object


def put_on(model: nn.Module, folder: Path, choices: Choices | None) -> PeftModel:
    """The adapter under `folder` on a classifier, by peft; a causal LM's on one of answer letters (`choices`)."""
    settings = read_object(folder / "adapter_config.json", remedy="save the adapter again")
    check_patterns(folder, settings, [name for name, _ in model.named_modules()])
    config: Any = PeftConfig.from_pretrained(str(folder))
    if choices is not None or config.task_type in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
        config.task_type = None  # peft would ask the classifier to generate text, or make it a head of its own
    return PeftModel.from_pretrained(cast(Any, model), str(folder), config=config, is_trainable=False)
