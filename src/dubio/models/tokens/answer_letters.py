"""Multiple choice with causal LMs: a classifier of answer letters whose head is cut from the rows of the LM head.

The logit of a letter at the answer position is `h . W[letter]`, h the hidden state there (the last of the prompt) and W
the output embedding. So `score` of a sequence classifier, filled with those rows, gives the causal LM's own logits,
and the features are the h: nothing else in dubio needs to know. Over the whole vocabulary (`rest`) the head is W itself
and one more class holds the probability of all other tokens, as in arXiv 2402.12264.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from dubio.data.prompts import PromptTemplate, letters_of, read_prompt_file
from dubio.errors import DubioError
from dubio.heads import KeptAndRest

REST = "rest"
# Settings by which families scale or cap the logits of their LM head; the value at which they do nothing.
_SHAPED = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0, "lm_head_multiplier": 1.0}
_QUESTION = ("Which of these comes first?", ["one", "two"])


@dataclass(frozen=True)
class Choices:
    """How a causal LM answers: the template of its prompts, with the letters, and whether all other tokens are a class.

    rest: False: probabilities over the letters alone; True: over the whole vocabulary, with one more class, "rest".
    """

    template: PromptTemplate
    rest: bool = False

    def __post_init__(self) -> None:
        if self.rest and REST in self.template.letters:
            raise DubioError(f"a letter cannot be called {REST!r}, as the class of all other tokens is")

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names: the letters, and "rest"."""
        return (*self.template.letters, REST) if self.rest else self.template.letters

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.template.facts(), REST: self.rest}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Choices":
        """From `facts`, or as many as differ from the defaults; raises DubioError on unknown settings."""
        rest = facts.get(REST, False)
        if not isinstance(rest, bool):
            raise DubioError(f"setting {REST} of a prompt is true or false, not {str(rest)[:60]!r}")
        return cls(PromptTemplate.of({name: value for name, value in facts.items() if name != REST}), rest)


def as_choices(letters: "str | Choices | None") -> Choices | None:
    """Letters such as `ABCD` or `True,False` with the default prompt; anything else as it is."""
    return Choices(PromptTemplate(letters_of(letters))) if isinstance(letters, str) else letters


def asked_choices(letters: str | None, prompt: Path | None) -> Choices | None:
    """From letters such as `ABCD` and a JSON file of the prompt's settings, either or both; None for neither."""
    if letters is None and prompt is None:
        return None
    facts = {} if prompt is None else read_prompt_file(prompt)
    return Choices.of(facts if letters is None else {**facts, "letters": letters_of(letters)})


def choices_of(record: Mapping[str, Any], asked: Choices | None, where: str) -> Choices | None:
    """What an adapter was trained with, by its record, else what is asked for; raises DubioError where both differ."""
    stored = record.get("choices")
    if stored is None:
        return asked
    known = Choices.of(cast(Mapping[str, Any], stored))
    if asked is not None and asked != known:
        raise DubioError(f"{where} was trained on other letters or another prompt; leave them out, its record has them")
    return known


def letter_ids(tokenizer: Any, template: PromptTemplate) -> list[int]:
    """The token of each letter as it follows the prompt; raises DubioError unless it is one token, and its own."""
    prompt = template.render(*_QUESTION, context=None if template.context is None else "Some context.")
    before: list[int] = tokenizer(prompt)["input_ids"]
    filler = next(
        (t for name in ("pad", "eos") if (t := getattr(tokenizer, f"{name}_token_id", None)) is not None), None
    )
    if before and before[-1] == filler:
        raise DubioError(f"a prompt that ends in {template.cue!r} ends in the pad token; choose another cue")
    found: list[int] = []
    for letter in template.letters:
        after: list[int] = tokenizer(prompt + template.gap + letter)["input_ids"]
        shown = repr(template.gap + letter)
        if after[: len(before)] != before:
            raise DubioError(
                f"answer {shown} changes the tokens before it: {template.cue!r} does not end where a token does (or "
                "the tokenizer appends one); choose another cue or gap"
            )
        if len(after) != len(before) + 1:
            raise DubioError(
                f"answer {shown} is {len(after) - len(before)} tokens after {template.cue!r}, and must be one; choose "
                "other letters, or another gap or cue"
            )
        found.append(after[-1])
    for first, second in ((i, j) for j in range(len(found)) for i in range(j)):
        if found[first] == found[second]:
            raise DubioError(
                f"answers {template.letters[first]} and {template.letters[second]} are one and the same token"
            )
    return found


def fill_head(model: Any, tokenizer: Any, choices: Choices, source: tuple[str, dict[str, Any]]) -> None:
    """Puts the letters' rows of the LM head in place of a classifier's `score`; it has as many classes already.

    source: where the base lies, and how transformers reads it, for bases whose LM head is not their embedding.
    Raises DubioError for a base that is no decoder with a plain LM head, or letters that are not single tokens.
    """
    config = model.config.get_text_config()
    score = dict(model.named_children()).get("score")
    if not isinstance(score, nn.Linear):
        raise DubioError(f"{model.config.model_type} has no LM head that dubio reads; answer letters need a decoder")
    for name, idle in _SHAPED.items():
        if getattr(config, name, idle) not in (idle, None):
            raise DubioError(
                f"{model.config.model_type} changes the logits of its LM head ({name}), which dubio cannot"
            )
    ids = letter_ids(tokenizer, choices.template)
    weight, bias = _lm_head(model, config, source)
    rows = torch.arange(len(weight)) if choices.rest else torch.tensor(ids)
    linear = nn.Linear(weight.shape[1], len(rows), bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(weight[rows])
        if bias is not None:
            linear.bias.copy_(bias[rows])
    model.score = nn.Sequential(linear, KeptAndRest(ids, len(rows))) if choices.rest else linear


def _lm_head(model: Any, config: Any, source: tuple[str, dict[str, Any]]) -> tuple[Tensor, Tensor | None]:
    """(weight `[V, d]`, bias `[V]` or None) of the LM head. Tied to the embedding it costs nothing to read."""
    if getattr(model.config, "tie_word_embeddings", False) or getattr(config, "tie_word_embeddings", False):
        return model.get_input_embeddings().weight.detach(), None
    where, options = source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, **options
        )
    whole, info = found
    head: Any = whole.get_output_embeddings()
    names = {id(value): name for name, value in whole.named_parameters(remove_duplicate=False)}
    if not isinstance(head, nn.Linear) or names.get(id(head.weight)) in info["missing_keys"]:
        raise DubioError(f"{where} holds no LM head, only the body of the model; name the whole causal LM as base")
    return head.weight.detach(), head.bias.detach() if "bias" in head.state_dict() else None
