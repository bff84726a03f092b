"""Is this a choice of one class out of C for each text? What is something else is refused before a number is shown.

A model of several labels at once, a regression and a tagger of tokens have logits too, and a softmax over them means
nothing.
"""

import re
from collections.abc import Mapping
from typing import Any

from dubio.errors import DubioError
from dubio.models.adapter.files import AdapterFiles
from dubio.safe_reading import read_object

# What transformers calls models of other problems, and what each of them does.
_OTHERS = {
    "ForTokenClassification": "labels every token", "ForQuestionAnswering": "marks answers in a text",
    "ForMultipleChoice": "compares texts with one another", "ForNextSentencePrediction": "compares two texts",
}  # fmt: skip
_TYPES = {
    "multi_label_classification": "several of its classes may be right at once", "regression": "it predicts numbers",
}  # fmt: skip
# Heads that only classifiers of whole texts have, taggers of tokens having one linear layer.
_WHOLE_TEXT = re.compile(r"\.(classifier\.(dense|out_proj)|pre_classifier|pooler)\.")


def beside(files: AdapterFiles) -> Mapping[str, Any]:
    """The model's config.json that people save into an adapter's folder; empty where there is none."""
    path = files.folder / "config.json"
    return read_object(path, remedy="save it again, or delete it") if path.is_file() else {}


def check_problem(config: Any, path: str, files: AdapterFiles | None) -> None:
    """Raises DubioError where a model's config, its base's, or an adapter's settings say that it is no such choice.

    config: as loaded, of the whole model or of the adapter's base. An adapter that only says TOKEN_CLS, over a model
    that classifies texts, is none the less such a choice; and what dubio has trained is one.
    """
    own = {} if files is None else beside(files)
    if files is None or "labels" not in files.record:
        kind = own.get("problem_type") or getattr(config, "problem_type", None)
        if kind in _TYPES:
            where = path if files is None else str(files.folder)
            raise DubioError(
                f"{path} is a model of problem_type {kind}: {_TYPES[kind]}, and dubio judges one class out of C; where "
                f'that is what it chooses, write "problem_type": "single_label_classification" into {where}/config.json'
            )
    named = [*(own.get("architectures") or ()), *(getattr(config, "architectures", None) or ())]
    if files is None:
        _check_architecture(path, named)
        return
    mapping: Any = files.settings.get("auto_mapping") or {}
    _check_architecture(path, [mapping.get("base_model_class") or "", *(own.get("architectures") or ())])
    whole = any(str(name).endswith("ForSequenceClassification") for name in named) or "labels" in files.record
    if files.task == "TOKEN_CLS" and not whole and not any(_WHOLE_TEXT.search(f".{key}") for key in files.shapes):
        raise DubioError(
            f"{path} is an adapter of task TOKEN_CLS, which labels every token, and dubio judges one class for each "
            "text; name an adapter of a sequence classifier (SEQ_CLS)"
        )


def _check_architecture(path: str, names: list[Any]) -> None:
    for name in map(str, names):
        for ending, does in _OTHERS.items():
            if name.endswith(ending):
                raise DubioError(
                    f"{path} is a {name}, which {does}, and dubio judges one class for each text; name a sequence "
                    "classifier"
                )
