"""Tiny causal LMs whose tokenizer holds each answer letter as one token behind a blank, adapters on them by peft, and
transformers alone as a reference."""

import functools
import json
import warnings

import peft
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from dubio.adapters.targets import lora_targets
from models.tiny import CONFIGS, MARKS, TEXTS, root

LETTERS = "ABCD"
QUESTIONS = [
    {"question": "What was late?", "choices": ["the film", "the phone", "the gate", "boarding"], "answer": 0},
    {"question": "Who answered the phone?", "choices": ["nobody", "yes", "the wonderful little gate"], "answer": "A"},
    {"question": "42?", "choices": ["no", "yes"], "answer": 1},
    {"question": "Which of these is a gate that was late in a wonderful film?", "answer": 3,
     "choices": ["gate 42", "no idea", "the film was late and the phone was late", "what a film"]},
]  # fmt: skip


def letter_tokenizer(**options):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet)
    raw.train_from_iterator([*TEXTS, *[" A B C D E"] * 50], trainer)
    merges = [tuple(pair) for pair in json.loads(raw.to_str())["model"]["merges"]]
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]", "model_max_length": 200}
    return tf.Qwen2Tokenizer(vocab=raw.get_vocab(), merges=merges, **{**names, **options})


def save_causal(folder, family="llama", tied=False, seed=0, tokenizer=None, **changes):
    """A whole random causal LM with a tokenizer; output embedding tied to the input's or its own."""
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    longer = {"n_positions": 200} if family == "gpt2" else {"max_position_embeddings": 200}
    for name, value in {"tie_word_embeddings": tied, **longer, **changes}.items():
        setattr(config, name, value)
    tf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    (tokenizer or letter_tokenizer()).save_pretrained(folder)
    return folder


@functools.cache
def causal_base(family, tied):
    """Shared, so leave it as it is."""
    return save_causal(root() / f"causal-{family}-{tied}", family, tied)


def causal(base, adapter=None):
    """The causal LM, by transformers and peft alone."""
    level = tf.logging.get_verbosity()
    tf.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = model if adapter is None else peft.PeftModel.from_pretrained(model, adapter)
    tf.logging.set_verbosity(level)
    return model.eval()


def save_causal_adapter(folder, base, seed=1, **options):
    """A LoRA of the causal LM as a peft user makes it, its B moved away from zero."""
    torch.manual_seed(seed)
    model = causal(base)
    fan = {"fan_in_fan_out": model.config.model_type == "gpt2"}
    settings = {"r": 4, "lora_alpha": 8, "target_modules": lora_targets(model), **fan, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
        adapted.save_pretrained(folder)
    return folder


@functools.cache
def causal_adapter(family, tied):
    """Shared, so copy it before changing it."""
    return save_causal_adapter(root() / f"causal-{family}-{tied}-lora", causal_base(family, tied))


def last_logits(model, tokenizer, prompts, side="right"):
    """`[n, V]` logits of the causal LM at the last real position of each prompt."""
    tokenizer.padding_side = side
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=mask, position_ids=positions).logits
    last = mask.sum(dim=1) - 1 if side == "right" else torch.full((len(mask),), mask.shape[1] - 1)
    return logits[torch.arange(len(mask)), last]
