"""Adapters as people make them with transformers and peft, and what these two by themselves predict, text by text."""

import functools
import inspect
import json
import warnings

import peft
import torch
import transformers as tf

from dubio.adapters.targets import lora_targets
from models.tiny import CLASSES, root, save_base, tokenizer

# Nine families, encoders and decoders.
NINE = ("bert", "roberta", "electra", "distilbert", "deberta", "modernbert-cls", "llama", "qwen2", "gpt2")
ROWS = ["the film was late", "yes", "[USER] what a wonderful gate [USER]", "nobody answered the phone 42", "late"]
PLAIN = [text for text in ROWS if "[" not in text]
# What transformers calls the tokenizer of a family, whose vocabulary it makes empty where there is none.
TOKENIZERS = {
    "bert": "BertTokenizer", "roberta": "RobertaTokenizer", "electra": "BertTokenizer", "distilbert": "BertTokenizer",
    "deberta": "DebertaV2Tokenizer", "llama": "LlamaTokenizer", "qwen2": "Qwen2Tokenizer", "gpt2": "GPT2Tokenizer",
    "mpnet": "MPNetTokenizer",
}  # fmt: skip


@functools.cache
def snug(family):
    """A base with just as many embeddings as its tokenizer has tokens, so that added tokens need new ones."""
    return save_base(root() / f"snug-{family}", family, head=True, vocab_size=len(tokenizer(family)))


def embeddings_of(model):
    """The last part of the name of the input embeddings."""
    own = model.get_input_embeddings()
    return next(name for name, module in model.named_modules() if module is own).rpartition(".")[2]


def make(folder, base, change=None, tokens=None, save=None, **config):
    """Trains nothing but moves every trainable number, and saves, with the tokenizer.

    change: to the bare model. tokens: as for `add_special_tokens`. save: options of peft's `save_pretrained`.
    """
    quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = tf.AutoTokenizer.from_pretrained(base)
        torch.manual_seed(1)
        model = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=CLASSES)
        if tokens is not None:
            own.add_special_tokens(tokens)
            model.resize_token_embeddings(len(own))
        if change is not None:
            change(model)
        fan = {"fan_in_fan_out": True} if model.config.model_type == "gpt2" else {}
        facts = {"task_type": "SEQ_CLS", "r": 2, "target_modules": lora_targets(model), **fan, **config}
        adapted = peft.get_peft_model(model, peft.LoraConfig(**facts))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
        adapted.save_pretrained(folder, **(save or {}))
    own.save_pretrained(folder)
    return folder


def bare(folder):
    """The folder without any file of its tokenizer."""
    for path in [*folder.glob("tokenizer*"), *folder.glob("vocab*"), *folder.glob("merges*"), *folder.glob("special*")]:
        path.unlink()
    return folder


def expected(base, folder, texts, rows=None, words=None):
    """Logits `[n, C]` by transformers and peft alone, one text at a time.

    rows: of embeddings. words: where the tokenizer lies, if not beside the adapter.
    """
    quiet()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        own = tf.AutoTokenizer.from_pretrained(words or folder)
        model = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=CLASSES)
        if rows is not None:
            model.resize_token_embeddings(rows)
        model.config.pad_token_id = own.pad_token_id
        facts = json.loads((folder / "adapter_config.json").read_text())
        assert facts["base_model_name_or_path"] == str(base)
        adapted = peft.PeftModel.from_pretrained(model, folder).eval()
        known = {"input_ids", "attention_mask", "token_type_ids"} & set(inspect.signature(model.forward).parameters)
        batches = [own([text], return_tensors="pt") for text in texts]
        return torch.cat([adapted(**{k: v for k, v in batch.items() if k in known}).logits for batch in batches])


def quiet():
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
