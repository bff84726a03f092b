"""Adapters, bases and artefacts that are damaged, absent, merged or another's, in the register of bad_input."""

import json
import shutil

from bad_input import case
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification

from dubio.artifacts.manifest import read_manifest, write_manifest
from tiny_classifier import save_adapter, save_base


def spoil(path, at=100):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(bytes(content))


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


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
    """An adapter whose tensors are changed by a function from one dict to another, of an older record."""
    adapter = d.adapter()
    path, record = adapter / "adapter_model.safetensors", adapter / "dubio_training.json"
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in facts.items() if key != "weights_sha256"}))
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


@case("model.safetensors is damaged or cut short")
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


@case("the artifact belongs to another model: there is a difference in the adapter; put back")
def artifact_of_another_adapter(d):
    other = save_adapter(d.folder / "other", d.tiny.base, d.tiny.test, d.tiny.validation, seed=3, epochs=2)
    return d.score("--artifact", d.tiny.adapter, adapter=other)


@case("the artifact was fitted at 32 tokens a row, not 16")
def another_length(d):
    return d.score("--max-length", "16")
