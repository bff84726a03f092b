"""What a fit is bound to besides files: the config's settings, the tokenizer's work and the weights, as loaded.

The hashes of files answer first. Where one differs, these tell whether anything that changes a number does: a config
that another transformers wrote again, a tokenizer that was saved again, a merged copy, are the same model.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from peft import PeftModel

from dubio.arrays import Float64
from dubio.files import sha256_json
from dubio.models.adapted import AdaptedModel
from dubio.models.checks.load_checks import TEXTS
from dubio.models.checks.sketch import sketch
from dubio.models.tokens.batching import tokenize

# Of a config: what changes no number of a forward pass of texts. Dropout, in whatever name, is off.
_IDLE = frozenset({
    "_name_or_path", "transformers_version", "id2label", "label2id", "architectures", "dtype", "torch_dtype",
    "use_cache", "output_attentions", "output_hidden_states", "return_dict", "return_dict_in_generate", "_commit_hash",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_experts_implementation",
    "initializer_range", "initializer_factor", "initializer_cutoff_factor", "gradient_checkpointing", "problem_type",
    "finetuning_task", "task_specific_params", "tokenizer_class", "bos_token_id", "eos_token_id", "sep_token_id",
    "pad_token_id", "chunk_size_feed_forward", "pretraining_tp", "tie_word_embeddings", "auto_map",
})  # fmt: skip
_HARD = (
    "Ünïcödé, ＦＵＬＬ ｗｉｄｔｈ, ½ and ﬁ; an\u00a0odd\u200b space\tand a\nline", "中文字符 и кириллица عربي",
    "👍🏽 it's DON'T",
    "3,141.59 e-mail@example.org https://example.org/a?b=c#d", "snake_case CamelCase ALLCAPS x=y->z {[(<>)]}", "  ",
)  # fmt: skip
_TOGETHER, _JOINED = 8, 2000  # words a probe, probes of words without blanks between them


def config_facts(model: AdaptedModel) -> dict[str, Any]:
    """The config's settings that change numbers, flat (`rope_parameters.rope_theta`), as JSON."""
    inner: Any = model.model.get_base_model() if isinstance(model.model, PeftModel) else model.model
    return dict(_leaves(inner.config.to_dict()))


def config_changes(stored: Mapping[str, Any], version: Any, model: AdaptedModel) -> list[str]:
    """What differs from the settings stored by that version of transformers, in words: `hidden_act: gelu, now relu`.

    A setting that only one of two versions knows is no difference.
    """
    found, alike = config_facts(model), version == transformers.__version__
    names = sorted({*found, *stored} if alike else {*found} & {*stored})
    return [
        f"{name}: {stored.get(name, 'none')}, now {found.get(name, 'none')}"
        for name in names
        if name not in stored or name not in found or stored[name] != found[name]
    ]


def tokens_sha256(model: AdaptedModel) -> str:
    """Hex hash of the token ids of the vocabulary's words, apart and joined, and of texts that are hard to cut."""
    tokenizer, words = model.tokenizer, _words(model.tokenizer)
    drawn = np.frombuffer(hashlib.shake_256(b"pairs of words").digest(8 * _JOINED), "<u4").reshape(-1, 2)
    joined = ["".join(words[at] for at in pair) for pair in (drawn % len(words)).tolist()]
    texts = [" ".join(words[at : at + _TOGETHER]) for at in range(0, len(words), _TOGETHER)]
    texts += [*joined, *TEXTS, *_HARD, " ".join(map(str, tokenizer.all_special_tokens[:50]))]
    # Not verbose: some of these are longer than a model takes, and no model sees them.
    whole = tokenizer(texts, verbose=False), tokenizer(list(TEXTS), list(TEXTS[::-1]), verbose=False)
    long = " ".join(TEXTS * (1 + model.max_length // 8))
    cut = tokenize(model, [long], None), tokenize(model, [long], [long])
    total = hashlib.sha256(str((tokenizer.pad_token_id, sorted(model.inputs))).encode())
    for encoded in (*whole, *cut):
        for key in ("input_ids", "token_type_ids"):
            for row in encoded[key] if key in encoded and key in model.inputs else ():
                total.update(np.array([len(row), *row], np.int64).tobytes())
    return total.hexdigest()


def weights_of(model: AdaptedModel) -> dict[str, Float64]:
    """Name -> `[3]` sketch of every weight; see `sketch`."""
    return sketch(model.model)


def head_of(model: AdaptedModel) -> dict[str, Float64]:
    """The same of the classification head alone."""
    return sketch(model.head)


def table_of(sketches: Mapping[str, Float64]) -> tuple[str, NDArray[np.float64]]:
    """(hash of the names, `[P, 3]` the sketches in the order of their names)."""
    names = sorted(sketches)
    return sha256_json(names), np.array([sketches[name] for name in names]).reshape(len(names), -1)


def _leaves(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in _IDLE or "drop" in name:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{before}{name}", _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else str(value)  # pyright: ignore


def _words(tokenizer: Any) -> list[str]:
    """The vocabulary as texts, in the order of the texts: in that of their ids, any two vocabularies look alike."""
    ids = sorted(tokenizer.get_vocab().values())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return sorted(backend.decode_batch([[number] for number in ids], skip_special_tokens=False))
    return sorted(tokenizer.convert_tokens_to_string([token]) for token in tokenizer.convert_ids_to_tokens(ids))
