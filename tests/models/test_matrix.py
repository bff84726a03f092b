"""Nine families, each in every set-up that people really have: dubio's logits are those of transformers + peft, each
text run alone, or a refusal of one line. No cell is left out: what cannot be run is in `REFUSED` with who refuses it.
"""

import functools
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from models.options import NINE, PLAIN, ROWS, TOKENIZERS, bare, embeddings_of, expected, make, snug
from models.tiny import DECODERS, refused, root, save_base, settings, tokenizer

USUAL = ("bert", "llama")  # the slow lane has all nine
FAMILY = [family if family in USUAL else pytest.param(family, marks=pytest.mark.slow) for family in NINE]
SIDES = {family: ("right", "left") if family in DECODERS else ("right",) for family in NINE}  # that are padded
END = "[SEP]"  # of the tiny tokenizers: eos, and the pad token of some set-ups
# Texts that end in eos, are nothing but eos, and hold it; PLAIN without and then with it at the end.
ENDED = [
    *PLAIN, *(text + END for text in PLAIN), PLAIN[0] + END + END, END, END + END, f"yes{END}no", f"{END}late{END}",
]  # fmt: skip
NAMES = ("positive", "negative", "neutral")
# Two ways in which transformers has no tokenizer: an empty one, or, by the family's own class, none at all.
EMPTY = r"/made/base holds no whole tokenizer: its vocabulary is empty; put its files there"
ABSENT = r"/made/base holds no whole tokenizer: its vocabulary is not there; put its files there"
UNREPEATED = r"trained on \S+, does not fit \S+: Could not locate the layers attribute in the model"
# Cells that are refused: (family or "all", set-up) -> (what peft or transformers itself raises, or None where these two
# are silent: an empty vocabulary, another model at each load; dubio's line).
REFUSED = {
    ("all", "half a tokenizer, none in the base"): (None, EMPTY),
    ("llama", "half a tokenizer, none in the base"): (None, ABSENT),
    ("modernbert-cls", "half a tokenizer, none in the base"): (None, ABSENT),
    ("all", "PiSSA by random vectors"): (None, "initialised by 'pissa_niter_4', which draws random numbers"),
    **{  # peft finds no list of layers in these: it makes no such adapter, so one is forged
        (family, "layer_replication"): ((ValueError, "Could not locate the layers attribute"), UNREPEATED)
        for family in ("roberta", "electra", "distilbert", "deberta", "gpt2")
    },
    # transformers keeps a list of what kind each layer is, which peft does not make longer
    ("qwen2", "layer_replication"): ((IndexError, "list index"), "a batch of 8 texts does not run: IndexError"),
}


@dataclass(frozen=True)
class Cell:
    """An adapter and what it must be like. rows: of embeddings. words: where its tokenizer lies. stored: a pattern that
    some of the adapter's keys match, because the set-up says so.
    """

    base: Path
    folder: Path
    texts: list[str]
    rows: int | None = None
    words: Path | None = None
    stored: str = "lora_A"


@functools.cache
def shared(family):
    return make(root() / f"matrix-{family}", snug(family))


def plain(family, folder):
    return Cell(snug(family), shutil.copytree(shared(family), folder), PLAIN)


def added_tokens(family, folder):
    tokens = {"additional_special_tokens": ["[USER]"], "pad_token": "[PAD2]"}
    swapped = [text.replace("[USER]", "[UNK]") for text in ROWS]
    made = make(folder, snug(family), tokens=tokens)
    return Cell(
        snug(family), made, [*ROWS, *swapped], len(tokenizer(family)) + 2, stored=r"embed\w*\.weight|wte\.weight"
    )


def ended(folder):
    """The tokenizer there, padding with its eos token."""
    own = tf.AutoTokenizer.from_pretrained(folder)
    own.eos_token = own.pad_token = END
    own.save_pretrained(folder)
    return own.pad_token_id


def pad_is_eos(family, folder):
    """The adapter's tokenizer pads with eos; the base's config and tokenizer have another pad token."""
    cell = plain(family, folder)
    ended(folder)
    return replace(cell, texts=ENDED)


def pad_is_eos_in_the_base(family, folder):
    end, rows = tokenizer(family).convert_tokens_to_ids(END), len(tokenizer(family))
    base = save_base(folder / "base", family, head=True, vocab_size=rows, pad_token_id=end, eos_token_id=end)
    assert ended(base) == end
    return Cell(base, make(folder / "adapter", base), ENDED)


def in_the_base(family, folder):
    cell = plain(family, folder)
    return replace(cell, folder=bare(folder), words=cell.base)


def settings_alone(family, folder):
    cell = in_the_base(family, folder)
    own = json.loads((cell.base / "tokenizer_config.json").read_text())
    own["tokenizer_class"] = TOKENIZERS.get(family, own["tokenizer_class"])
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    return cell


def vocabulary_alone(family, folder):
    cell = in_the_base(family, folder)
    shutil.copy(cell.base / "tokenizer.json", folder)
    return cell


def half_over_none(family, folder):
    cell = settings_alone(family, folder / "adapter")
    base = bare(shutil.copytree(cell.base, folder / "base"))
    settings(cell.folder, base_model_name_or_path=str(base))
    return replace(cell, base=base)


def labels_in_config(family, folder):
    cell = plain(family, folder)
    config = tf.AutoConfig.from_pretrained(cell.base)
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {name: i for i, name in enumerate(NAMES)}
    config.save_pretrained(folder)
    return cell


def whole_embeddings(family, folder):
    name = embeddings_of(tf.AutoModelForSequenceClassification.from_pretrained(snug(family)))
    made = make(folder, snug(family), modules_to_save=[name])
    return Cell(snug(family), made, PLAIN, stored=rf"{name}\.weight")


def repeated(family, folder):
    if (family, "layer_replication") not in REFUSED or family == "qwen2":
        made = make(folder, snug(family), layer_replication=[(0, 2), (1, 2)])
        return Cell(snug(family), made, PLAIN, stored=r"layers?\.2\.")
    cell = plain(family, folder)
    settings(folder, layer_replication=[[0, 2], [1, 2]])
    return cell


def pissa_by_random_vectors(family, folder):
    cell = plain(family, folder)
    settings(folder, init_lora_weights="pissa_niter_4")
    return cell


def option(stored="lora_A", **config):
    return lambda family, folder: Cell(snug(family), make(folder, snug(family), **config), PLAIN, stored=stored)


SETUPS = {
    "plain": plain,
    "added tokens": added_tokens,
    "pad = eos": pad_is_eos,
    "pad = eos in the base": pad_is_eos_in_the_base,
    "tokenizer only in the base": in_the_base,
    "half a tokenizer: settings": settings_alone,
    "half a tokenizer: vocabulary": vocabulary_alone,
    "half a tokenizer, none in the base": half_over_none,
    "labels in config.json": labels_in_config,
    "modules_to_save embeddings": whole_embeddings,
    "rank_pattern": option(rank_pattern={".*0.*": 1}, alpha_pattern={".*1.*": 9}),
    "layer_replication": repeated,
    "lora_bias": option(r"lora_B\.bias", lora_bias=True),
    "PiSSA": option(init_lora_weights="pissa"),
    "PiSSA by random vectors": pissa_by_random_vectors,
}


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("setup", SETUPS)
def test_cell(family, setup, tmp_path):
    cell = SETUPS[setup](family, tmp_path / "made")
    refusal = REFUSED.get((family, setup)) or REFUSED.get(("all", setup))
    if refusal is not None:
        theirs, line = refusal
        if theirs is not None:
            with pytest.raises(theirs[0], match=theirs[1]):
                expected(cell.base, cell.folder, cell.texts)
        refused(cell.folder, line)
        return
    held = {key: value.shape for key, value in load_file(cell.folder / "adapter_model.safetensors").items()}
    assert any(re.search(cell.stored, key) for key in held)
    target = expected(cell.base, cell.folder, cell.texts, cell.rows, cell.words)
    model = load(cell.folder)
    found = torch.from_numpy(extract(model, cell.texts, how=Extraction(token_budget=64, show=False)).logits)
    together = [model.forward(pad(tokenize(model, cell.texts, None), model, side))[1] for side in SIDES[family]]
    for logits in (found, *together):
        torch.testing.assert_close(logits, target, rtol=0, atol=1e-5 * float(target.abs().max()))
    assert target.std(dim=0).min() > 0.02  # the texts are told apart
    told = tf.AutoConfig.from_pretrained(cell.folder if (cell.folder / "config.json").exists() else cell.base).id2label
    assert model.labels == (NAMES if setup == "labels in config.json" else ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert [model.labels[i] for i in found.argmax(1)] == [told[int(i)] for i in target.argmax(1)]
    check_sense(family, setup, target, {shape[0] for key, shape in held.items() if "lora_A" in key})


def check_sense(family, setup, target, ranks):
    """That the set-up, as transformers and peft see it, is what its name says."""
    assert ranks == ({1, 2} if setup == "rank_pattern" else {2})
    if setup == "added tokens":
        changed = (target[: len(ROWS)] - target[len(ROWS) :]).abs().amax(dim=1) > 1e-3
        assert changed.tolist() == ["[USER]" in text for text in ROWS]
    if setup.startswith("pad = eos"):  # a decoder passes over a final eos
        moved = (target[: len(PLAIN)] - target[len(PLAIN) : 2 * len(PLAIN)]).abs().amax(dim=1) > 1e-3
        assert moved.tolist() == [family not in DECODERS] * len(PLAIN)
