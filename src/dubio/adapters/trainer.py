"""Training a LoRA classifier with transformers' Trainer, on the AdUE paper's settings unless told otherwise.

In: a base model, training and validation tables. Out: a plain PEFT adapter folder (safetensors), the tokenizer, and
`dubio_training.json` with label names, settings, the hashes of what it was trained on and each epoch's validation
accuracy, and beside it the hash of every row that it has seen (see `seen`). The best checkpoint by validation accuracy
is kept; a killed run resumes from its last epoch.

Source: arXiv 2505.15443: rank 8, alpha 16, dropout 0.05 on query, key and value; AdamW, lr 5e-4, weight
decay 0.1, batch 64, gradients clipped at 1, linear decay after 10 % warm-up.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import Conv1D, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from dubio.adapters.plan import LabelledTexts, TrainingPlan, check_plan
from dubio.adapters.seen import write_rows
from dubio.adapters.targets import fresh_modules, layers_named, lora_targets, top_indices
from dubio.adapters.watching import watched
from dubio.errors import DubioError
from dubio.files import check_folder, open_to_all, sha256_file, sha256_json, write_json, written_by_others
from dubio.models.adapter.files import RECORD, find_adapter, settings_of
from dubio.models.bases.base import base_hash, has_bfloat16, load_base
from dubio.models.bases.locating import name_base
from dubio.models.tokens.answer_letters import Choices
from dubio.models.tokens.lengths import truncated_rows, within
from dubio.safe_reading import FACTS, UnreadableError, read_json, read_object


def train_adapter(
    base: str, labels: Sequence[str], train: LabelledTexts, validation: LabelledTexts, out: Path,
    plan: TrainingPlan | None = None, choices: Choices | None = None,
) -> Mapping[str, Any]:  # fmt: skip
    """Trains and saves an adapter for classes `labels` under `out`; returns the training record.

    choices: answer letters, which are then the labels: the head is the LM head's and stays frozen, and the adapter is
    one of the causal LM.
    Raises DubioError where `out` already holds a finished adapter or cannot be written, where `train` has rows of one
    class only, where `validation` has none, and on settings or a base that cannot be trained.
    """
    plan, labels = plan or TrainingPlan(), labels if choices is None else choices.labels
    if (out / "adapter_config.json").exists():
        raise DubioError(f"{out} already holds an adapter; choose another folder or delete it")
    check_folder(out)
    check_plan(plan, labels, train, validation)
    set_seed(plan.seed)
    model, tokenizer, missing = load_base(base, list(labels), plan.device, None, choices)
    if tokenizer.pad_token_id is None:
        raise DubioError(f"{base}: the tokenizer has neither a pad nor an eos token, which batches need; add one")
    config: Any = model.config
    config.problem_type = "single_label_classification"  # whatever the base was fine-tuned for
    tokenizer.padding_side = "right"  # as in extraction: absolute positions must count alike
    length = within(plan.max_length, tokenizer, model)
    peft_model = _adapted(model, missing, plan, lettered=choices is not None)
    name_base(peft_model.peft_config["default"], base)  # for a .gguf file, peft would name its folder
    digest, told = base_hash(base), {} if choices is None else {"choices": choices.facts()}
    key = sha256_json({**asdict(plan), "device": "", "show": 0, "base": digest, "train": train.sha256,
                       "validation": validation.sha256, "labels": list(labels), **told})  # fmt: skip
    work = out / f".training-{key[:12]}"
    trainer = Trainer(
        model=peft_model,
        args=_arguments(work, plan),
        train_dataset=_Rows(tokenizer, train, length),  # pyright: ignore[reportArgumentType]
        eval_dataset=_Rows(tokenizer, validation, length),  # pyright: ignore[reportArgumentType]
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, axis=1) == p.label_ids).mean())},
    )
    with written_by_others(out), watched(trainer, show=plan.show):
        trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    history = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry]
    record = {
        "base": base,
        "base_sha256": digest,
        "labels": list(labels),
        **told,
        "max_length": length,
        "pairs": train.pairs is not None,
        "plan": asdict(plan),
        "train": split_record(train, tokenizer, length),
        "validation": split_record(validation, tokenizer, length),
        "validation_accuracy": [entry["eval_accuracy"] for entry in history],
        "best_epoch": 1 + int(np.argmax([entry["eval_accuracy"] for entry in history])),
    }
    return publish_adapter(peft_model, tokenizer, record, out, work, rows=(train, validation))


def _adapted(model: Any, missing: Sequence[str], plan: TrainingPlan, *, lettered: bool) -> Any:
    """The base with a fresh LoRA on it, and what it lacks to be trained whole: nothing, if it answers by letters."""
    if not plan.base_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    targets = lora_targets(model, plan.targets)
    config = LoraConfig(
        # Of SEQ_CLS, peft would train the head whatever it is told.
        task_type=None if lettered else TaskType.SEQ_CLS, r=plan.rank, lora_alpha=plan.alpha, lora_dropout=plan.dropout,
        target_modules=targets if plan.targets is None else layers_named(model, targets, plan.top_layers),
        modules_to_save=fresh_modules(missing) or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2
        # Beside full names, peft would not look at it.
        layers_to_transform=None if plan.targets or not plan.top_layers else top_indices(model, plan.top_layers),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own use of transformers
        return get_peft_model(model, config)


class _Rows:
    """Tokenised rows for the Trainer."""

    def __init__(self, tokenizer: Any, rows: LabelledTexts, max_length: int) -> None:
        encoded = tokenizer(
            list(rows.texts), None if rows.pairs is None else list(rows.pairs), truncation=True, max_length=max_length
        )
        self.rows = [
            {**{key: encoded[key][i] for key in encoded}, "labels": int(rows.labels[i])} for i in range(len(rows.texts))
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def split_record(rows: LabelledTexts, tokenizer: Any, length: int) -> dict[str, Any]:
    """Of a table that was trained on: number of rows, hash, and how many rows are longer than was read."""
    cut = int(truncated_rows(tokenizer, length, rows.texts, rows.pairs).sum())
    return {"rows": len(rows.texts), "sha256": rows.sha256, "truncated": cut}


def _arguments(work: Path, plan: TrainingPlan) -> TrainingArguments:
    cuda = plan.device.startswith("cuda")
    return TrainingArguments(
        output_dir=str(work),
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=128,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        warmup_steps=0.1,  # a share of all steps
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="epoch",
        train_sampling_strategy="group_by_length",
        bf16=plan.precision == "bfloat16" or (plan.precision == "auto" and has_bfloat16(plan.device)),
        use_cpu=not cuda,
        seed=plan.seed,
        disable_tqdm=True,
        report_to=[],
    )


def _last_checkpoint(work: Path) -> str | None:
    found = [p for p in work.glob("checkpoint-*") if _complete(p / "trainer_state.json")]
    return str(max(found, key=lambda p: int(p.name.rpartition("-")[2]))) if found else None


def _complete(state: Path) -> bool:
    """The Trainer writes its state last, so a checkpoint without it, or with half of it, was cut short."""
    try:
        return bool(read_json(state, limit=FACTS, finite=False))
    except UnreadableError:
        return False


def publish_adapter(
    model: Any, tokenizer: Any, record: Mapping[str, Any], out: Path, work: Path, *,
    rows: tuple[LabelledTexts, LabelledTexts], beside: Callable[[str], object] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Saves a PEFT model and moves it into place, its config last: a folder with a config is a whole adapter.

    rows: (train, validation), whose hashes go along. Returns the record as it is written: with what tells that it
    belongs to these rows, weights and settings.
    beside: writes what is to lie beside the adapter, before it appears; called with the adapter's hash.
    An adapter whose record tells of answer letters is saved as the causal LM's that it is.
    """
    staged = work / "adapter"
    with written_by_others(out):
        # Left to itself, peft asks the hub about the base.
        model.save_pretrained(staged, save_embedding_layers=False)
        tokenizer.save_pretrained(staged)
    settings = read_object(staged / "adapter_config.json")
    for name in ("target_modules", "modules_to_save"):  # sets, which peft writes in any order
        settings[name] = sorted(set(settings[name] or [])) or None
    if "choices" in record:
        settings |= {"task_type": TaskType.CAUSAL_LM.value, "auto_mapping": None}
    write_json(staged / "adapter_config.json", settings)
    hashes = {part: table.rows_hash for part, table in zip(("train", "validation"), rows, strict=True)}
    own = {"weights_sha256": sha256_file(staged / "adapter_model.safetensors"), "settings": settings_of(settings)}
    record = {**record, "rows": write_rows(staged, hashes), **own}
    write_json(staged / RECORD, record)
    open_to_all(staged)
    files = find_adapter(staged)
    if beside is not None and files is not None:
        beside(files.sha256)
    for path in sorted(staged.iterdir(), key=lambda p: p.name == "adapter_config.json"):
        path.replace(out / path.name)
    shutil.rmtree(work)
    return record
