"""`extract` reads what is in memory as it reads the file; the other verbs say "extract first" to all else.

The types that the tests check at every call are taken off here: people have none.
"""

import inspect

import datasets
import numpy as np
import pytest

import dubio
from dubio.errors import DubioError
from models.tiny import WORDS, adapter_folder
from synthetic import planted
from workflow.workflow_cases import one_thread  # noqa: F401

pd = pytest.importorskip("pandas")
TEXTS = [" ".join(WORDS[i : i + 4]) for i in range(6)]


@pytest.fixture(scope="module")
def model():
    return dubio.load(adapter_folder("bert"))


def test_extract_reads_frames_and_data_sets_as_the_file_of_their_columns(model, tmp_path):
    labels = [model.labels[i % len(model.labels)] for i in range(len(TEXTS))]
    frame = pd.DataFrame({"id": range(6), "text": TEXTS, "label": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    expected = dubio.extract(model, tmp_path / "t.csv")
    assert len(expected) == 6
    for rows in (frame, datasets.Dataset.from_pandas(frame), frame.to_dict("records"), frame.to_dict("list")):
        found = dubio.extract(model, rows)
        assert found.logits.tobytes() == expected.logits.tobytes()
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.groups, expected.groups)
    for texts in (frame["text"], np.array(TEXTS), tuple(TEXTS), iter(TEXTS)):
        found = dubio.extract(model, texts)
        assert found.logits.tobytes() == expected.logits.tobytes()
        assert found.labels is None


@pytest.mark.parametrize("rows", ["a text", b"a text", ["a", None], [""], 3, None, {"a"}, [("a", "b")]])
def test_extract_refuses_what_is_no_row(model, rows):
    with pytest.raises(DubioError) as caught:
        dubio.extract(model, rows)
    assert "\n" not in str(caught.value)


def test_extract_says_what_its_first_argument_is(model):
    with pytest.raises(DubioError, match="extract takes a loaded model and rows, not a list; load the model first"):
        inspect.unwrap(dubio.extract)(TEXTS, model)


def test_what_is_not_extracted_is_told_to_be(model):
    train, rows = planted(rows=300, seed=1)[0], planted(rows=300, seed=2)[0]
    made = dubio.fit(None, rows, methods=["softmax_response", "entropy"])
    fit, evaluate, score, promise = map(inspect.unwrap, (dubio.fit, dubio.evaluate, dubio.score, dubio.promise))
    first = r"extract (and score )?first: dubio\.extract\(model, rows\)$"
    for given in ("rows.csv", TEXTS, pd.DataFrame({"text": TEXTS}), model, dubio.table_of(TEXTS), None):
        calls = [
            (fit, train, given), (evaluate, made, given), (score, made, given),
            (dubio.risk_threshold, given, rows.errors, 0.1), (dubio.risk_threshold, rows.logits[:, 0], given, 0.1),
        ]  # fmt: skip
        for call, *arguments in [*calls, *([(fit, given, rows)] if given is not None else [])]:
            with pytest.raises(DubioError, match=first) as caught:
                call(*arguments)
            assert "\n" not in str(caught.value)
        if given is not None:
            with pytest.raises(DubioError, match=first):
                evaluate(made, rows, ood=given)
    for given in ("adapter/", model, rows, None):
        for call in (evaluate, score):
            with pytest.raises(DubioError, match=r"what dubio\.fit or dubio\.open_artifact gives, not"):
                call(given, rows)
        with pytest.raises(DubioError, match=r"what dubio\.fit or dubio\.open_artifact gives, not"):
            promise(given, 0.1)
