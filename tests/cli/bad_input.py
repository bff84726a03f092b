"""Bad input by name: what to type, what the one line must say, and whether it can only be found after a forward pass."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification

from dubio.artifacts.manifest import read_manifest, write_manifest
from tiny_classifier import Tiny, read_rows, save_adapter, save_base, write_table


@dataclass(frozen=True)
class Case:
    build: Callable[["Desk"], list[object]]
    message: str
    late: bool


CASES: dict[str, Case] = {}


def case(message, late=False):
    def register(build):
        CASES[build.__name__] = Case(build, message, late)
        return build

    return register


@dataclass(frozen=True)
class Desk:
    """The fitted classifier, and a folder for what a case changes."""

    tiny: Tiny
    folder: Path

    def fit(self, *more, adapter=None, train=None, calibration=None):
        tables = ("--train", train or self.tiny.train, "--calibration", calibration or self.tiny.calibration)
        return ["fit", adapter or self.tiny.adapter, *tables, *more]

    def score(self, *more, adapter=None, source=None, output="out.csv"):
        return ["score", adapter or self.tiny.adapter, source or self.tiny.test, "--output", self.folder / output, *more]

    def evaluate(self, *more, adapter=None, test=None):
        report = ("--report", self.folder / "report")
        return ["evaluate", adapter or self.tiny.adapter, "--test", test or self.tiny.test, *report, *more]

    def train(self, *more, train=None, out="new"):
        return ["train", "--train", train or self.tiny.train, "--model", self.tiny.base, "--out", self.folder / out, *more]

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def table(self, texts, labels):
        return write_table(self.folder / "table.csv", texts, labels)

    def adapter(self, fitted=True):
        """A copy to be spoilt; without what was fitted if so asked."""
        copy = Path(shutil.copytree(self.tiny.adapter, self.folder / "adapter"))
        if not fitted:
            shutil.rmtree(copy / "dubio")
        return copy

    def part(self, stem):
        """(adapter, a file of its artefact): a copy to be spoilt."""
        adapter = self.adapter()
        return adapter, next(iter((adapter / "dubio").glob(f"{stem}*")))


def spoil(path, at=100):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(bytes(content))


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@case("none.csv: no such file")
def missing_table(d):
    return d.fit(calibration=d.folder / "none.csv")


@case("there is no adapter folder")
def missing_adapter(d):
    return d.fit("--artifact", d.folder / "artifact", adapter=d.folder / "none")


@case("is not a local folder")
def missing_adapter_and_artifact(d):
    return d.score(adapter=d.folder / "none")


@case("no column 'nope'; there are: id, text, label")
def no_such_column(d):
    return d.fit("--text", "nope")


@case("no column 'nope'")
def no_such_label_column(d):
    return d.evaluate("--label", "nope")


@case("no label column found")
def no_label_column(d):
    return d.evaluate(test=d.file("t.csv", "text\na\nb\n"))


@case("zero rows")
def zero_rows(d):
    return d.score(source=d.file("t.csv", "text\n"))


@case("line 3: column 'text' is empty")
def empty_text(d):
    return d.score(source=d.file("t.csv", 'text,id\na,1\n"  ",2\n'))


@case("line 4: label 'politics' is not in the model; it knows: 0 food, 1 sport, 2 weather")
def label_not_in_the_model(d):
    return d.fit(calibration=d.table(["a b", "c d", "e f"], ["food", "sport", "politics"]))


@case("label 'politics' is not in the model")
def unknown_test_label(d):
    return d.evaluate(test=d.table(["a b", "c d"], ["food", "politics"]))


@case("line 2: column 'label' is missing or NaN")
def nan_label(d):
    return d.fit(calibration=d.file("t.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": NaN}\n'))


@case("line 3: column 'label' is missing")
def no_label(d):
    return d.fit(train=d.table(["a", "b"], ["food", ""]))


@case("line 3: byte 18 is not UTF-8")
def not_utf8(d):
    return d.score(source=d.file("t.csv", "text,label\na,b\ncaf\xe9,d\n".encode("latin-1")))


@case("line 3 has 3 fields, the header has 2")
def ragged(d):
    return d.score(source=d.file("t.csv", "text,label\na,b\nc,d,e\n"))


@case("column 'text' holds only numbers, not text")
def numbers_for_text(d):
    return d.score(source=d.file("t.csv", "text,label\n1,a\n2.5,b\n"))


@case("column 'text' holds numbers, not text")
def numbers_for_text_in_json(d):
    return d.score(source=d.file("t.jsonl", '{"text": 1}\n{"text": 2}\n'))


@case("all 3 calibration rows are of class 'food'")
def one_class(d):
    return d.fit(calibration=d.table(["a b", "c d", "e f"], ["food"] * 3))


@case("calibration predictions are right", late=True)
def no_errors(d):
    rows = [row for row in read_rows(d.tiny.root / "scored.csv") if row["predicted_label"] == row["label"]]
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("calibration predictions are wrong", late=True)
def nothing_right(d):
    rows = [row for row in read_rows(d.tiny.root / "scored.csv") if row["predicted_label"] != row["label"]]
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("rows of calibration are also in train")
def calibration_in_train(d):
    rows = read_rows(d.tiny.train)[:40] + read_rows(d.tiny.calibration)
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("400 of 400 rows of test are also in calibration (as stored)")
def tested_on_calibration(d):
    return d.evaluate(test=d.tiny.calibration)


@case("1 of 3 rows of test are also in train (as stored), such as line 3")
def tested_on_train(d):
    row = read_rows(d.tiny.train)[7]
    return d.evaluate(test=d.table(["a b", f"  {row['text']}", "c d"], ["food"] * 3))


@case("rows of validation are also in train")
def validation_in_train(d):
    return d.train("--validation", d.tiny.train)


@case("is not the base that the adapter was trained on")
def another_base(d):
    return d.fit("--base", save_base(d.folder / "base", seed=5))


@case("does not fit")
def base_of_another_width(d):
    adapter = d.adapter()
    (adapter / "dubio_training.json").unlink()
    return d.fit("--base", save_base(d.folder / "base", width=48), adapter=adapter)


@case("is not the base that the adapter was trained on")
def merged_into_its_base(d):
    base = BertForSequenceClassification.from_pretrained(d.tiny.base, num_labels=3)
    PeftModel.from_pretrained(base, d.tiny.adapter).merge_and_unload().bert.save_pretrained(d.folder / "merged")
    AutoTokenizer.from_pretrained(d.tiny.base).save_pretrained(d.folder / "merged")
    return d.fit("--base", d.folder / "merged")


def rewritten(d, change):
    """An adapter whose tensors are changed by a function from one dict to another."""
    adapter = d.adapter()
    path = adapter / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return adapter


@case("it is untrained (all zero), empty, or already merged")
def merged_adapter(d):
    return d.fit(adapter=rewritten(d, lambda t: {k: v * ("lora_B" not in k) for k, v in t.items()}))


@case("1 adapter keys are missing from adapter_model.safetensors: ")
def missing_adapter_key(d):
    return d.fit(adapter=rewritten(d, lambda t: dict(sorted(t.items())[1:])))


@case("is damaged or cut short")
def corrupt_adapter(d):
    adapter = d.adapter()
    spoil(adapter / "adapter_model.safetensors", at=12)
    return d.score(adapter=adapter)


@case("is damaged or cut short")
def truncated_adapter(d):
    adapter = d.adapter()
    truncate(adapter / "adapter_model.safetensors")
    return d.score(adapter=adapter)


@case("cannot load the base model")
def truncated_base(d):
    shutil.copytree(d.tiny.base, d.folder / "base")
    truncate(d.folder / "base" / "model.safetensors")
    return d.score("--base", d.folder / "base")


@case("was changed after it was written")
def corrupt_artifact(d):
    adapter, path = d.part("md-")
    spoil(path, at=-5)
    return d.score(adapter=adapter)


@case("was changed after it was written")
def truncated_artifact(d):
    adapter, path = d.part("rows-")
    truncate(path)
    return d.evaluate(adapter=adapter)


@case("manifest.json is damaged")
def truncated_manifest(d):
    adapter, path = d.part("manifest")
    truncate(path)
    return d.score(adapter=adapter)


@case("knn-")
def missing_artifact_file(d):
    adapter, path = d.part("knn-")
    path.unlink()
    return d.score(adapter=adapter)


@case("has schema version 2 and this dubio reads 1")
def another_schema(d):
    adapter, path = d.part("manifest")
    write_manifest(path, read_manifest(path).model_copy(update={"schema_version": 2}))
    return d.score(adapter=adapter)


@case("run `dubio fit` first")
def scored_before_fit(d):
    return d.score(adapter=d.adapter(fitted=False))


@case("run `dubio fit` first")
def evaluated_before_fit(d):
    return d.evaluate(adapter=d.adapter(fitted=False))


@case("the artefact belongs to another adapter")
def artifact_of_another_adapter(d):
    other = save_adapter(d.folder / "other", d.tiny.base, d.tiny.test, d.tiny.validation, seed=3, epochs=2)
    return d.score("--artifact", d.tiny.adapter, adapter=other)


@case("the artefact was fitted at 32 tokens a row, not 16")
def another_length(d):
    return d.score("--max-length", "16")
