"""Whose names the classes bear, and that a label of a table never becomes another class."""

import json
import shutil

import pytest

from dubio.cli.common import Session
from dubio.data.tables import table_of
from dubio.errors import DubioError
from dubio.models.labels import check_list, read_labels
from dubio.models.loading import load
from models.tiny import adapter_folder, refused, save_adapter, save_base, settings

NAMES = ["negative", "neutral", "positive"]


def names(folder, labels, file="config.json", **more):
    path = folder / file
    facts = json.loads(path.read_text()) if path.exists() else {}
    if file == "config.json":
        table = dict(labels) if isinstance(labels, dict) else {str(i): name for i, name in enumerate(labels)}
        facts |= {"id2label": table, "label2id": {name: int(i) for i, name in table.items()}}
    else:
        facts |= {"labels": list(labels)}
    path.write_text(json.dumps({**facts, **more}))
    return folder


@pytest.fixture
def adapter(tmp_path):
    return shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")


@pytest.fixture
def named(tmp_path, adapter):
    """An adapter over a base whose classes have names."""
    settings(adapter, base_model_name_or_path=str(names(save_base(tmp_path / "base", head=True), NAMES)))
    return adapter


def test_the_adapters_own_config_comes_first(named):
    assert load(named).labels == tuple(NAMES)
    model = load(names(named, NAMES[::-1]))
    assert model.labels == tuple(NAMES[::-1])
    assert table_of(["x"] * 2, labels=["positive", "negative"]).label_ids(model.labels).tolist() == [0, 2]


def test_names_from_a_program_are_a_list_of_text(adapter):
    refused(adapter, r"labels: expected a list of names in the model's order, .* got 'abc'", labels="abc")
    for given in ([1, 2, 3], {0: "a", 1: "b", 2: "c"}, {"b": 1, "a": 0, "c": 2}, {"a", "b", "c"}):
        with pytest.raises(DubioError, match="labels: expected a list of names"):
            check_list(given)


def test_a_base_without_names(adapter):
    assert load(adapter).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    names(adapter, ["LABEL_0", "LABEL_1"])  # the config of a body, copied
    assert load(adapter).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert load(names(adapter, ["ham", "spam", "maybe"])).labels == ("ham", "spam", "maybe")
    (adapter / "config.json").write_text(json.dumps({"label2id": {"ham": 2, "spam": 1, "maybe": 0}}))
    assert load(adapter).labels == ("maybe", "spam", "ham")
    refused(names(adapter, ["ham", "spam"]), r"config.json names classes 0, 1, and the model has 3")


def test_dubios_record(named):
    assert load(names(named, ["x", "y", "z"], "dubio_training.json")).labels == ("x", "y", "z")
    assert load(names(named, ["X", "y", "z"])).labels == ("X", "y", "z")  # but for case the same
    refused(names(named, NAMES), r"config.json calls the classes 0 negative.*, and .*training.json calls .* 0 x, 1 y")


def test_names_from_the_user(named, adapter, tmp_path):
    assert load(adapter, labels=["x", "y", "z"]).labels == ("x", "y", "z")  # an adapter's head may be of other classes
    refused(named, "0 negative, 1 neutral, 2 positive, and --labels calls the classes 0 positive", labels=NAMES[::-1])
    refused(names(named, NAMES), "and --labels calls the classes 0 x, 1 y, 2 z", labels=["x", "y", "z"])
    assert load(named, labels=["Negative", "neutral", "positive"]).labels == tuple(NAMES)
    refused(adapter, "--labels names classes 0, 1, and the model has 3", labels=["x", "y"])
    refused(adapter, "--labels calls two classes 'x'", labels=["x", "x", "z"])
    refused(tmp_path / "base", "config.json calls the classes 0 negative.* and --labels", labels=["x", "y", "z"])


@pytest.mark.parametrize("table", [
    {"0": "a", "1": "b", "5": "c"}, {"1": "a", "2": "b", "3": "c"}, {"0": "a", "1": "a", "2": "b"},
    {"0": "a", "1": " ", "2": "b"},
])  # fmt: skip
def test_classes_numbered_or_named_wrongly(table, adapter, tmp_path):
    base = save_base(tmp_path / "base", head=True)
    names(base, table)
    reason = r"config.json(: class 1 has no name| calls two classes 'a'| names classes \d, \d, \d, and the model has 3)"
    refused(base, rf"{base}/{reason}")
    assert load(base, labels=["a", "b", "c"]).labels == ("a", "b", "c")
    refused(names(adapter, table), rf"{adapter}/{reason}")
    assert load(adapter, labels=["a", "b", "c"]).labels == ("a", "b", "c")
    bare = save_adapter(tmp_path / "bare", base)
    refused(bare, reason.replace("config.json", f"the config of the base {base}"))


def test_a_config_that_contradicts_itself(adapter):
    names(adapter, NAMES, label2id={"negative": 2, "neutral": 1, "positive": 0})
    refused(adapter, "contradicts itself: 'negative' is class 0 in id2label and class 2 in label2id")
    names(adapter, NAMES, label2id={"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2})  # left over
    assert load(adapter).labels == tuple(NAMES)


def test_names_as_they_are_written(tmp_path):
    assert read_labels("ham, spam") == ("ham", "spam")
    (tmp_path / "lines.txt").write_text("a, with a comma\nb\n\n")
    (tmp_path / "list.json").write_text('["x", "y"]')
    names(tmp_path, ["no", "yes"])
    files = {"lines.txt": ("a, with a comma", "b"), "list.json": ("x", "y"), "config.json": ("no", "yes")}
    files = {"lines.txt": ("a, with a comma", "b"), "list.json": ("x", "y"), "config.json": ("no", "yes")}
    for file, expected in files.items():
        assert read_labels(str(tmp_path / file)) == expected
    (tmp_path / "bad.json").write_text("[1, 2]")
    for text in ("", "a,,b", str(tmp_path / "bad.json"), str(tmp_path / "none.txt"), "no/such/file"):
        with pytest.raises(DubioError, match="--labels"):
            read_labels(text)


def test_a_session_takes_the_users_names_or_those_that_were_fitted(adapter):
    assert Session(str(adapter), labels="x,y,z").model.labels == ("x", "y", "z")
    fitted = Session(str(adapter), fitted_labels=("x", "y", "z"))
    assert fitted.model.labels == ("x", "y", "z")
    names(adapter, NAMES)
    assert Session(str(adapter), fitted_labels=("x", "y", "z")).model.labels == tuple(NAMES)  # and `open` refuses


def test_letters_are_names_enough():
    from models.letters_tiny import causal_adapter

    folder = causal_adapter("llama", True)
    assert load(folder, letters="AB", labels=["A", "B"]).labels == ("A", "B")
    refused(folder, r"answers by letters calls its classes 0 A, 1 B; leave", letters="AB", labels=["x", "y"])
