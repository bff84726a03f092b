"""Each file of an adapter's folder, taken from another adapter: a refusal of one line, or the very same answers."""

import json
import shutil

import pytest

from dubio.adapters.plan import TrainingPlan
from dubio.adapters.seen import ROWS
from dubio.data.tables import read_table
from dubio.models.adapter.files import RECORD
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.workflow.rows import labelled
from tiny_classifier import LABELS, dubio, one_thread, read_rows

FEW = ("--methods", "softmax_response,probe,ensemble.response")


def ensemble(folder, tiny, labels, seed, first=0, **settings):
    """An ensemble of two beside its first member, briefly trained."""
    rows = tuple(labelled(read_table(table, need_labels=True).take(slice(first, 100 + first)), labels)
                 for table in (tiny.train, tiny.validation))  # fmt: skip
    plan = {"learning_rate": 3e-2, "epochs": 2, "batch_size": 32, "max_length": 32, "show": False, "seed": seed}
    with one_thread():
        train_posterior("ensemble", str(tiny.base), labels, rows, folder, TrainingPlan(**{**plan, **settings}),
                        PosteriorPlan(members=2))  # fmt: skip
    return folder


def swapped_words(path):
    """A tokenizer in which two words have changed places, of those that no fingerprint text has."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    words = facts["model"]["vocab"]
    words["cheese"], words["goal"] = words["goal"], words["cheese"]
    path.write_text(json.dumps(facts), encoding="utf-8")


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """Two adapters on one base, of other seeds, settings, rows and label orders, each fitted; tokenizers differ too."""
    root = tmp_path_factory.mktemp("two")
    one = ensemble(root / "one", tiny, list(LABELS), 0)
    other = ensemble(root / "other", tiny, list(LABELS[::-1]), 7, 10, alpha=32)
    for folder in (one, other):
        done = dubio("fit", folder, "--calibration", tiny.calibration, *FEW, "--cache", root / "cache")
        assert done.code == 0, done
    swapped_words(other / "tokenizer.json")
    return one, other, answers(one, tiny, root)


def answers(folder, tiny, root):
    done = dubio("score", folder, tiny.test, "--output", root / "out.csv", "--cache", root / "cache")
    if done.code == 2:
        assert done.err.count("\n") == 1, done
        assert not (root / "out.csv").exists()
        return done.err
    assert done.code == 0, done
    return read_rows(root / "out.csv")


def twin(path, folder, other):
    """The file of the other adapter that stands for this one: of the same name, or but for the hash in it."""
    inside = path.relative_to(folder)
    if (other / inside).is_file():
        return other / inside
    found = sorted((other / inside.parent).glob(f"{path.name.rpartition('-')[0]}-*"))
    assert len(found) == 1, path
    return found[0]


HARMLESS = {"special_tokens_map.json", "tokenizer_config.json", "README.md", ROWS}


def test_each_file_of_another_adapter(two, tiny, tmp_path):
    one, other, before = two
    files = [path.relative_to(one) for path in sorted(one.rglob("*")) if path.is_file()]
    assert len(files) > 10
    for number, inside in enumerate(files):
        folder = shutil.copytree(one, tmp_path / str(number) / "adapter")
        shutil.copy(twin(folder / inside, folder, other), folder / inside)
        found = answers(folder, tiny, tmp_path / str(number))
        same = (folder / inside).read_bytes() == (one / inside).read_bytes()
        assert isinstance(found, str) or (inside.name in HARMLESS or same), inside
        assert isinstance(found, str) or found == before, inside


def test_before_a_fit_the_record_belongs_to_weights_settings_and_rows(two, tiny, tmp_path):
    one, other, _ = two
    words = {
        "adapter_model.safetensors": "was written with other weights than the adapter has",
        "adapter_config.json": "was written with other settings (al",
        RECORD: "was written with other weights than the adapter has",
        ROWS: "cannot tell which rows the adapter was trained on: it was changed, or is another adapter's",
    }
    for name, told in words.items():
        folder = shutil.copytree(one, tmp_path / name, ignore=shutil.ignore_patterns("dubio"))
        shutil.copy(other / name, folder / name)
        done = dubio("fit", folder, "--calibration", tiny.calibration, "--methods", "softmax_response")
        assert (done.code, told in done.err, (folder / "dubio").exists()) == (2, True, False), (name, done)


def test_an_ensemble_is_bound_to_the_adapter_that_it_lies_beside(two, tiny, tmp_path):
    one, other, _ = two
    folder = shutil.copytree(one, tmp_path / "adapter", ignore=shutil.ignore_patterns("dubio"))
    shutil.rmtree(folder / "posteriors")
    shutil.copytree(other / "posteriors", folder / "posteriors")
    done = dubio("fit", folder, "--calibration", tiny.calibration, *FEW, "--cache", tmp_path / "cache")
    assert (done.code, "posterior ensemble was made from another adapter" in done.err) == (2, True), done
