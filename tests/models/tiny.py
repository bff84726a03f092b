"""Tiny random models of every family, adapters on them as peft itself saves them, and peft alone as a reference."""

import functools
import json
import shutil
import tempfile
import warnings
import weakref
from pathlib import Path

import peft
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from dubio.adapters.targets import fresh_modules, lora_targets
from dubio.errors import DubioError
from dubio.models.bases.base import load_base
from dubio.models.loading import load

CLASSES = 3
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TEXTS = [
    "the film was late", "yes", "no idea what the wonderful little gate was", "42", "nobody answered the phone and the "
    "film was late in a wonderful little gate and boarding was late and the phone was late", "what a film", "gate 42",
]  # fmt: skip
WORDS = list(dict.fromkeys(" ".join(TEXTS).split()))
_SIZES = {"vocab_size": 320, "pad_token_id": 0, "initializer_range": 0.3}
_ENCODER = {**_SIZES, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
            "max_position_embeddings": 80}  # fmt: skip
_DECODER = {**_ENCODER, "num_key_value_heads": 1, "head_dim": 8}
_MODERN = {**_ENCODER, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
CONFIGS = {
    "bert": lambda: tf.BertConfig(**_ENCODER),
    "roberta": lambda: tf.RobertaConfig(**_ENCODER),
    "electra": lambda: tf.ElectraConfig(**_ENCODER, embedding_size=8),
    "distilbert": lambda: tf.DistilBertConfig(
        **_SIZES, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=80
    ),
    "deberta": lambda: tf.DebertaV2Config(
        **_ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, type_vocab_size=0,
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False,
    ),  # the settings of v3
    "modernbert-cls": lambda: tf.ModernBertConfig(**_MODERN, classifier_pooling="cls"),
    "modernbert-mean": lambda: tf.ModernBertConfig(**_MODERN, classifier_pooling="mean"),
    "llama": lambda: tf.LlamaConfig(**_DECODER),
    "qwen2": lambda: tf.Qwen2Config(**_DECODER),
    "qwen3": lambda: tf.Qwen3Config(**_DECODER),
    "gpt2": lambda: tf.GPT2Config(
        **_SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=80, bos_token_id=2, eos_token_id=3
    ),
}  # fmt: skip
DECODERS = ("llama", "qwen2", "qwen3", "gpt2")
FAMILIES = tuple(CONFIGS)
KINDS = ("lora", "dora", "rslora", "per-layer ranks", "ia3", "lora on the head", "prefix", "prompt", "p-tuning")
PROMPTS = KINDS[-3:]


def tokenizer(family):
    """Encoders: one word, one token, between [CLS] and [SEP]. Decoders: byte-level BPE (Qwen2's class takes no other)
    without marks, so that an empty text has no tokens.
    """
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 80}
    if family in DECODERS:
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet)
        raw.train_from_iterator(TEXTS, trainer)
        merges = [tuple(pair) for pair in json.loads(raw.to_str())["model"]["merges"]]
        return tf.Qwen2Tokenizer(vocab=raw.get_vocab(), merges=merges, eos_token="[SEP]", **names)
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*MARKS, *WORDS])}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=raw, cls_token="[CLS]", sep_token="[SEP]", model_input_names=inputs, **names
    )


@functools.cache
def root():
    """A folder of this process, gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="dubio-tiny-"))
    weakref.finalize(tokenizer, shutil.rmtree, folder, ignore_errors=True)
    return folder


def save_base(folder, family="bert", head=False, seed=0, **changes):
    """The body alone, as hubs hold it, or with a head as after fine-tuning. changes: to the config."""
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    for name, value in {"num_labels": CLASSES, **changes}.items():
        setattr(config, name, value)
    make = tf.AutoModelForSequenceClassification if head else tf.AutoModel
    make.from_config(config).save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


@functools.cache
def base_folder(family, head=False):
    """Shared, so copy it before changing it."""
    return save_base(root() / f"{family}-{head}", family, head)


def peft_config(kind, model, missing=()):
    """The config a user would write. missing: parameters that the base lacks, to be trained whole."""
    family, common = (
        model.config.model_type,
        {"task_type": "SEQ_CLS", "modules_to_save": fresh_modules(missing) or None},
    )
    prompt = {**common, "num_virtual_tokens": 5}
    if family == "distilbert":  # whose config peft cannot read
        prompt |= {"num_layers": 2, "num_attention_heads": 2, "token_dim": 16}
    if family == "electra" and kind != "prefix":  # whose embeddings are narrower than its layers
        prompt |= {"token_dim": model.config.embedding_size}
    match kind:
        case "prefix":
            return peft.PrefixTuningConfig(**prompt)
        case "prompt":
            return peft.PromptTuningConfig(**prompt)
        case "p-tuning":
            return peft.PromptEncoderConfig(**prompt, encoder_hidden_size=16)
    targets, fan = lora_targets(model), {"fan_in_fan_out": family == "gpt2"}
    if kind == "ia3":
        return peft.IA3Config(target_modules=targets, feedforward_modules=[], **fan, **common)
    extra = {
        "lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True},
        "per-layer ranks": {"rank_pattern": {f"0.*{targets[0]}": 2}, "alpha_pattern": {f"1.*{targets[0]}": 32}},
        "lora on the head": {"task_type": None, "modules_to_save": None},
    }[kind]  # fmt: skip
    if kind == "lora on the head":
        dense = ["classifier.dense", "classifier.out_proj"] if family in ("roberta", "electra") else ["classifier"]
        targets += ["score"] if hasattr(model, "score") else dense
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **{**fan, **common, **extra})


def save_adapter(folder, base, kind="lora", seed=1, change=None):
    """Wraps the base with peft, moves every trainable number away from its start, and saves.

    kind: one of KINDS, or a peft config. change: what to do to the wrapped model before it is saved.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model, _, missing = load_base(str(base), CLASSES, "cpu")
        adapted = peft.get_peft_model(model, peft_config(kind, model, missing) if isinstance(kind, str) else kind)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
            if change is not None:
                change(adapted)
        adapted.save_pretrained(folder)
    return folder


@functools.cache
def adapter_folder(family, kind="lora", head=False):
    """An adapter of this kind on `base_folder(family, head)`; shared, so copy it before changing it."""
    return save_adapter(root() / f"{family}-{head}-{kind}", base_folder(family, head), kind)


@functools.cache
def loaded(family, kind="lora", head=False):
    """`load` of that adapter, or of the plain classifier where kind is None; shared, so leave it as it is."""
    return load(base_folder(family, True) if kind is None else adapter_folder(family, kind, head))


def reference(base, adapter, batch):
    """Logits of a padded batch by transformers and peft alone."""
    level = tf.logging.get_verbosity()
    tf.logging.set_verbosity_error()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=CLASSES)
        model = model if adapter is None else peft.PeftModel.from_pretrained(model, adapter)
        tf.logging.set_verbosity(level)
        return model.eval()(**batch).logits


def padded(model, side, texts=TEXTS):
    """A batch padded by the tokenizer itself, with the positions that left padding needs in a decoder."""
    model.tokenizer.padding_side = side
    batch = dict(model.tokenizer(list(texts), padding=True, return_tensors="pt"))
    batch = {key: value for key, value in batch.items() if key in model.inputs}
    if model.site.pooling == "last":
        batch["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    return batch


def refused(path, reason, **options):
    """The error with which `load` refuses, on one line and for this reason."""
    with pytest.raises(DubioError, match=reason) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def settings(folder, **changes):
    """Edits an adapter's config; a value of "gone" removes its name."""
    facts = json.loads((folder / "adapter_config.json").read_text())
    kept = {key: value for key, value in {**facts, **changes}.items() if value != "gone"}
    (folder / "adapter_config.json").write_text(json.dumps(kept))
