"""A dry run of a grid: a whole cell of each model, and of each training that sets ask for, on a tiny random base of its
family and made-up rows.

It shows that everything in a config works together (training settings, posteriors, methods, variants) before weeks of
a machine are spent, without a model or a table at hand: the base is built from its family's own configuration, and two
rows of each class train it, or as many as a posterior takes. What comes out means nothing and is thrown away.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers

from dubio.data.prompts import letters_of
from dubio_bench.grid.config import DataSet, Grid, ModelSpec
from dubio_bench.run.runner import LocalExecutor, Run, Status

CLASSES, HELD, RANK, FOR_HEADS, FOR_FOLDS = 3, 60, 4, 24, 40
_WORDS = [*"ABCDEFGHIJ", *"abcdefghij", *(str(i) for i in range(10)), *".:?,", "Answer", "Question", "True", "False"]
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
          "max_position_embeddings": 256, "initializer_range": 0.3}  # fmt: skip
_OF_FAMILY: dict[str, dict[str, Any]] = {
    **{family: {"num_key_value_heads": 1, "head_dim": 8} for family in ("llama", "qwen2", "mistral")},
    "electra": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 32},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
                   "position_biased_input": False},
}  # fmt: skip


def dry_run(grid: Grid, say: Callable[[str], None]) -> Status:
    """Runs a cell of each model and training, on the device that the grid names; returns how it stands at the end."""
    with tempfile.TemporaryDirectory() as room:
        root = Path(room)
        kinds = {spec.kind or name for name, spec in grid.posteriors.items()}
        least = {"validation": FOR_HEADS * ("heads" in kinds), "train": FOR_FOLDS * ("kfold" in kinds)}
        data = {name: _tiny_data(root, letters, name, least) for name, letters in _kinds(grid).items()}
        bases = {name: _tiny_model(root / f"base-{name}", spec) for name, spec in grid.models.items()}
        found: list[Status] = []
        for name, spec in bases.items():
            kind = spec.letters or "texts"
            small = grid.model_copy(update={
                "models": {name: spec}, "data": _tiny_sets(grid, spec, data[kind]), "seeds": grid.seeds[:1],
                "training": _tiny_settings(grid.training),
                "posteriors": {
                    n: p.model_copy(update={"training": _tiny_settings(p.training, whole=False),
                                            "stages": dict.fromkeys(p.stages, 1)}) for n, p in grid.posteriors.items()
                },
            })  # fmt: skip
            config = root / f"{name}.json"
            config.write_text(json.dumps({}))
            found.append(Run(small, config, root, root / "store", root / "results", say=say).run(LocalExecutor()))
    counts = {
        kind: (sum(s.counts[kind][0] for s in found), sum(s.counts[kind][1] for s in found),
               sum(s.counts[kind][2] for s in found)) for kind in found[0].counts
    }  # fmt: skip
    return Status(counts, {step: error for s in found for step, error in s.failed.items()}, "")


def _kinds(grid: Grid) -> dict[str, str | None]:
    """Name of a made-up set -> the letters of its questions, None for labelled texts."""
    return {spec.letters or "texts": spec.letters for spec in grid.models.values()}


def _tiny_sets(grid: Grid, model: ModelSpec, rows: DataSet) -> dict[str, DataSet]:
    """The made-up set, once for each training that sets ask for, by the first's name. model: as in the dry run."""
    plain = {**_tiny_settings(grid.training), **model.training}
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, spec in grid.data.items():
        own = _tiny_settings(spec.training, whole=False)
        found.setdefault(json.dumps({**plain, **own}, sort_keys=True), (name, own))
    return {name: rows.model_copy(update={"training": own}) for name, own in found.values()}


def _tiny_settings(settings: dict[str, Any], whole: bool = True) -> dict[str, Any]:
    """The same settings with one short epoch and a rank and blocks that a tiny model has."""
    least = {"rank": RANK, "top_layers": 1, "max_length": 64}
    small = {name: min(value, least[name]) if value and name in least else value for name, value in settings.items()}
    return {**small, "epochs": 1, **({"batch_size": 2} if whole else {})}


def _tiny_data(root: Path, letters: str | None, name: str, least: Mapping[str, int]) -> DataSet:
    """Two training rows of each class, and enough others that methods can be fitted. least: rows of a table."""
    classes = CLASSES if letters is None else len(letters_of(letters))
    g = np.random.default_rng(0)
    counts = {"train": 2 * classes, "validation": classes, "calibration": HELD, "test": HELD}
    for table, enough in counts.items():
        rows = max(enough, least.get(table, 0))
        labels = [i % classes for i in range(rows)]
        texts = [" ".join(g.choice(_WORDS[:30], 8)) + f" {i}" for i in range(rows)]
        columns: dict[str, Any] = {"text": texts, "label": labels}
        if letters is not None:
            choices = [[f"{text} {c}" for c in range(classes)] for text in texts]
            columns = {"question": texts, "choices": choices, "answer": labels}
        parquet.write_table(pa.table(columns), root / f"{name}-{table}.parquet")
    tables = {table: f"{name}-{table}.parquet" for table in counts}
    return DataSet.model_validate({**tables, "ood": tables["test"]})


def _tiny_model(folder: Path, spec: ModelSpec) -> ModelSpec:
    """A random base of the family under `folder`."""
    own = {**_SIZES, **_OF_FAMILY.get(spec.family, {}), "vocab_size": len(_WORDS) + 16, "pad_token_id": 1,
           "bos_token_id": 0, "eos_token_id": 2}  # fmt: skip
    config = transformers.AutoConfig.for_model(spec.family, **own)
    causal = spec.letters is not None or spec.family in ("llama", "qwen2", "mistral", "gpt2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        build.from_config(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    small = _tiny_settings(spec.training, whole=False)
    return spec.model_copy(update={"base": str(folder), "precision": "float32", "training": small})


def _tokenizer() -> Any:
    names = ["<s>", "<pad>", "</s>", "<unk>", *_WORDS]
    raw: Any = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", model_max_length=256,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
