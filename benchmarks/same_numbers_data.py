"""The small data and models of `same_numbers.py`, made without dubio: by NumPy, transformers and peft alone.

So a change of dubio's own trainer shows where dubio trains, and nowhere else.
"""

import csv
import json
import warnings
from functools import cache

import numpy as np
import peft
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

WORDS = {
    "food": ["bread", "soup", "cheese", "apple", "kitchen", "dinner", "salt", "butter", "cook", "taste"],
    "sport": ["team", "goal", "match", "player", "coach", "race", "win", "league", "ball", "train"],
    "weather": ["rain", "storm", "sun", "cloud", "wind", "snow", "cold", "heat", "fog", "sky"],
}
COMMON = [
    "the", "a", "was", "very", "today", "we", "saw", "it", "again", "with", "some", "new", "old", "and", "then",
    "little", "big", "of", "there", "here",
]  # fmt: skip
STRANGE = ["xyzzy", "quux", "plugh", "frob"]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def planted(classes, width, rows, repeat):
    """(train, calibration, test, ood, head): arrays whose errors the features explain, each with `rows` rows.

    A table is features, logits, labels, groups. repeat: rows a group; with 2, arrays are rounded to bfloat16 too.
    """
    g = np.random.default_rng([classes, width])
    truth = g.normal(size=(classes, width)) * 3 / np.sqrt(width)
    head = torch.nn.Linear(width, classes)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(truth + 0.5 * g.normal(size=truth.shape) / np.sqrt(width)))
        head.bias.copy_(torch.from_numpy(g.normal(size=classes) * 0.1))
    tables = []
    for far in (0, 0, 0, 4):
        z = torch.from_numpy(np.repeat(g.normal(size=(rows // repeat, width)), repeat, axis=0) + far)
        z = z + 0.1 * torch.from_numpy(g.normal(size=z.shape))
        z = z.bfloat16().float() if repeat > 1 else z.float()
        with torch.no_grad():
            logits = head(z)
        labels = np.argmax(z.numpy() @ truth.T + g.gumbel(size=(rows, classes)), axis=1)
        groups = np.arange(rows) // repeat if repeat > 1 else None
        tables.append((z.numpy(), logits.numpy(), labels, groups))
    return (*tables, head.requires_grad_(False))


@cache
def small(folder):
    """Tables, labels and base of a tiny BERT: texts of three topics, some labels noise; `ood` of other words."""
    folder.mkdir(parents=True)
    g, seen = np.random.default_rng(1), {}
    counts = {"train": 200, "validation": 80, "calibration": 260, "test": 160}
    while len(seen) < sum(counts.values()):
        label = [*WORDS][g.integers(3)]
        words = [*g.choice(WORDS[label], g.integers(1, 5)), *g.choice(COMMON, g.integers(2, 7))]
        seen.setdefault(" ".join(g.permutation(words)), [*WORDS][g.integers(3)] if g.random() < 0.15 else label)
    seconds = (" ".join(g.choice(COMMON, 3)) for _ in seen)
    rows = [{"text": text, "second": other, "label": seen[text]} for text, other in zip(seen, seconds, strict=True)]
    made, start = {}, 0
    for name, count in counts.items():
        made[name] = write_rows(folder / f"{name}.csv", rows[start : start + count])
        start += count
    strange = (f"{' '.join(g.choice(STRANGE, 8))} {row}" for row in range(60))
    ood = [{"text": text, "second": "quux", "label": "?"} for text in strange]
    made["ood"] = write_rows(folder / "ood.csv", ood)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.1,
    )  # fmt: skip
    save_base(folder / "base", transformers.BertModel(config), tokenizer(), [*WORDS])
    return {**made, "base": folder / "base", "labels": [*WORDS]}


def minilm(folder, path, whole):
    """Few rows of the demo's tables in the folder `whole`, and MiniLM (at `path`) as their base."""
    folder.mkdir(parents=True, exist_ok=True)
    made, counts = {}, {"train": 240, "validation": 60, "calibration": 240, "test": 160, "ood": 60}
    for name, count in counts.items():
        rows = [{**row, "text": " ".join(row["text"].split()[:24])} for row in rows_of(whole / f"{name}.csv")[:count]]
        made[name] = write_rows(folder / f"{name}.csv", rows)
    labels = sorted({row["label"] for row in rows_of(made["train"])})
    base, words = transformers.AutoModel.from_pretrained(path), transformers.AutoTokenizer.from_pretrained(path)
    save_base(folder / "base", base, words, labels)
    return {**made, "base": folder / "base", "labels": labels}


def questions(folder):
    """Tables of questions whose answer is told by a word, and a tiny causal LM whose tokenizer knows the letters."""
    folder.mkdir(parents=True)
    g, topics = np.random.default_rng(2), [*WORDS]
    made = {}
    for name, count in {"train": 160, "validation": 40, "calibration": 160, "test": 80}.items():
        rows = []
        for number in range(count):
            answer = int(g.integers(3))
            row = {"question": f"{number} {name} {topics[answer]} ?", "choices": g.choice(COMMON, 4, False).tolist()}
            rows.append({**row, "answer": int(g.integers(4)) if g.random() < 0.2 else answer})
        made[name] = folder / f"{name}.jsonl"
        made[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=128, initializer_range=0.3, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "base")
    byte_pairs().save_pretrained(folder / "base")
    return {**made, "base": folder / "base"}


def byte_pairs():
    """A byte-level tokenizer in which each letter behind a blank is one token."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=MARKS, initial_alphabet=alphabet)
    raw.train_from_iterator([" ".join([*WORDS, *COMMON]), *[" A B C D"] * 50], trainer)
    merges = [tuple(pair) for pair in json.loads(raw.to_str())["model"]["merges"]]
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]", "model_max_length": 128}
    return transformers.Qwen2Tokenizer(vocab=raw.get_vocab(), merges=merges, **names)


def adapter(folder, tables, epochs=4, learning_rate=2e-2):
    """A LoRA as a user of peft trains it, in a plain loop; AdamW, 16 rows a step."""
    torch.manual_seed(3)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        tables["base"], num_labels=len(tables["labels"])
    )
    words = transformers.AutoTokenizer.from_pretrained(tables["base"])
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
    model, rows = peft.get_peft_model(base, config), rows_of(tables["train"])
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(rows)).split(16):
            batch = [rows[i] for i in chosen.tolist()]
            inputs = words([row["text"] for row in batch], return_tensors="pt", padding=True, truncation=True)
            labels = torch.tensor([tables["labels"].index(row["label"]) for row in batch])
            model(**inputs, labels=labels).loss.backward()
            adam.step()
            adam.zero_grad()
    model.save_pretrained(folder)
    return folder


def save_base(folder, model, words, labels):
    """The body alone with its tokenizer; the config names the labels."""
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def tokenizer():
    """One word, one token, between [CLS] and [SEP]."""
    known = [*MARKS, *(word for topic in WORDS.values() for word in topic), *COMMON]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), MARKS, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=32, **names)


def rows_of(path):
    """The rows of a CSV file, as mappings."""
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def write_rows(path, rows):
    """Writes a CSV file and returns its path."""
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return path


warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
