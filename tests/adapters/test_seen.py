"""The rows of an adapter's training, kept beside it: hashed as tables hash them, and refused where they come back."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.test_lora_training import PLAN, TRAIN, VALIDATION, table, train
from dubio.adapters.seen import ROWS, check_unseen, rows_seen
from dubio.data.tables import table_of
from dubio.errors import DubioError
from dubio.models.adapter.files import RECORD, find_adapter


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("seen") / "adapter"
    return out, train(out, replace(PLAN, epochs=1))


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "adapter")


def by_hand(*rows):
    return {hashlib.sha256("\x1f".join(" ".join(part.split()) for part in row).encode()).digest()[:16] for row in rows}


def test_every_row_is_kept_as_its_hash(trained):
    out, record = trained
    assert json.loads((out / RECORD).read_text())["rows"] == record["rows"]
    assert record["rows"]["sha256"] == hashlib.sha256((out / ROWS).read_bytes()).hexdigest()
    found = {part: {row.tobytes() for row in rows} for part, rows in load_file(out / ROWS).items()}
    assert found == {
        "train": by_hand(*((text,) for text in TRAIN.texts)),
        "validation": by_hand(*((text,) for text in VALIDATION.texts)),
    }


def test_pairs_are_hashed_as_pairs(tmp_path):
    rows = table(24, 5, pairs=True)
    record = train(tmp_path / "a", replace(PLAN, epochs=1), rows=rows, validation=table(12, 6, pairs=True))
    assert record["pairs"] is True
    kept = {row.tobytes() for row in load_file(tmp_path / "a" / ROWS)["train"]}
    assert kept == by_hand(*zip(rows.texts, rows.pairs, strict=True))
    files = find_adapter(tmp_path / "a")
    assert check_unseen(files, {"calibration": table_of(rows.texts)})  # the first texts alone are other rows
    with pytest.raises(DubioError, match="24 of 24 rows of calibration are also in the adapter's training rows"):
        check_unseen(files, {"calibration": table_of(rows.texts, pairs=rows.pairs)})


@pytest.mark.parametrize(("part", "rows"), [("training", TRAIN), ("validation", VALIDATION)])
def test_one_row_in_other_blanks_is_found_among_new_ones(trained, part, rows):
    new = ["quite new", "and another", f"  {rows.texts[3].replace(' ', '   ')} "]
    with pytest.raises(DubioError) as caught:
        check_unseen(find_adapter(trained[0]), {"test": table_of(new)})
    assert str(caught.value).startswith(f"1 of 3 rows of test are also in the adapter's {part} rows")
    assert f"row 3: {' '.join(rows.texts[3].split())!r}" in str(caught.value)
    assert check_unseen(find_adapter(trained[0]), {"test": table_of(new[:2])})


def test_a_row_that_differs_by_a_letter_is_another(trained):
    near = [f"{text}." for text in TRAIN.texts]
    assert check_unseen(find_adapter(trained[0]), {"test": table_of(near)})


def damage(folder, how):
    path, record = folder / ROWS, json.loads((folder / RECORD).read_text())
    if how == "missing":
        path.unlink()
    elif how == "another's":
        save_file({"train": np.zeros((1, 16), np.uint8)}, path)
    else:
        save_file({"train": np.zeros((1, 8), np.uint8)} if how == "narrow" else {"train": np.zeros(3)}, path)
        record["rows"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize("how", ["missing", "another's", "narrow", "of another kind"])
def test_hashes_that_cannot_be_those_of_its_rows_are_refused(copied, how):
    damage(copied, how)
    with pytest.raises(DubioError, match=f"{ROWS} cannot tell which rows the adapter was trained on") as caught:
        check_unseen(find_adapter(copied), {"test": table_of(["new"])})
    assert "\n" not in str(caught.value)


def test_of_an_older_record_the_whole_table_is_known_again(copied):
    record = json.loads((copied / RECORD).read_text())
    held = table_of(TRAIN.texts, [str(label) for label in TRAIN.labels])
    for key in ("rows", "weights_sha256", "settings", "pairs"):
        record.pop(key)
    (copied / ROWS).unlink()
    (copied / RECORD).write_text(json.dumps({**record, "train": {"rows": 48, "sha256": held.content_hash}}))
    files = find_adapter(copied)
    assert rows_seen(files) is None
    with pytest.raises(DubioError, match="all 48 rows of calibration are the adapter's training rows"):
        check_unseen(files, {"calibration": held})
    assert not check_unseen(files, {"calibration": held.take(slice(0, 47))})
    assert not check_unseen(None, {"calibration": held})
    (copied / RECORD).write_text(json.dumps({**record, "train": {"sha256": 7}, "validation": {}}))
    assert not check_unseen(find_adapter(copied), {"calibration": held})


def test_a_record_belongs_to_its_weights_and_settings(copied, trained):
    config = copied / "adapter_config.json"
    settings = json.loads(config.read_text())
    later = {**settings, "peft_version": "9.9", "a_new_one": None, "base_model_name_or_path": "elsewhere"}
    later.pop("use_rslora")
    config.write_text(json.dumps(later))  # another peft has written it again
    assert find_adapter(copied).record == find_adapter(trained[0]).record
    config.write_text(json.dumps({**settings, "lora_alpha": 7}))
    with pytest.raises(DubioError, match=rf"{RECORD} was written with other settings \(lora_alpha\) than the adapter"):
        find_adapter(copied)
    config.write_text(json.dumps(settings))
    weights = load_file(copied / "adapter_model.safetensors")
    save_file({key: value * 2 for key, value in weights.items()}, copied / "adapter_model.safetensors")
    with pytest.raises(DubioError, match="written with other weights than the adapter has; put back"):
        find_adapter(copied)
    (copied / RECORD).unlink()
    assert find_adapter(copied).record == {}
