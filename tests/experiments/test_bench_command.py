"""`dubio bench`: run, status, show and compare as a user types them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from pyarrow import parquet
from tiny_grid import config, write

from dubio.files import sha256_json
from dubio_bench.results.seals import sealed, unsealed
from tiny_classifier import dubio


@pytest.fixture
def results(finished):
    return finished[0] / "results" / "small"


def test_run_and_status(small, tmp_path):
    path = write(tmp_path, config(small, seeds=[0]))
    store = ("--store", tmp_path / "store")
    before = dubio("bench", "status", path, *store)
    assert "adapter    0 of 1" in before.out
    done = dubio("bench", "run", path, *store, "--results", tmp_path / "results")
    assert done.code == 0, done
    assert (tmp_path / "results" / "small" / "tiny-topics-0.json").exists()
    assert "score      1 of 1" in dubio("bench", "status", path, *store, "--only", "seed=0").out


def test_a_device_that_is_not_there_is_refused_before_any_work(small, tmp_path):
    path = write(tmp_path, config(small, seeds=[0]))
    refused = dubio("bench", "run", path, "--device", "tpu", "--store", tmp_path / "store")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "use cpu, cuda or cuda:N" in refused.err
    assert not (tmp_path / "store").exists()
    for options, words in (
        (("--together",), "--together is for --executor local"),
        (("--device", "cpu"), "--device is"),
    ):
        refused = dubio("bench", "run", path, *options, "--executor", "ray", "--store", tmp_path / "store")
        assert (refused.code, words in refused.err) == (2, True), refused
    own = write(tmp_path / "own", config(small, trainer="transformers"))
    refused = dubio("bench", "run", own, "--together", "--store", tmp_path / "store")
    assert (refused.code, "set `trainer: stack`" in refused.err) == (2, True)
    assert not (tmp_path / "store").exists()


def test_the_device_does_not_change_what_is_done(small, tmp_path):
    values = config(small, seeds=[0], methods=["softmax_response"])
    values["models"]["tiny"]["device"] = "cuda"  # as on the machine that has one
    places = ("--store", tmp_path / "store", "--results", tmp_path / "results")
    done = dubio("bench", "run", write(tmp_path, values), "--device", "cpu", *places)
    assert done.code == 0, done
    values["models"]["tiny"]["device"] = "cpu"
    assert "3 steps, 3 done before" in dubio("bench", "run", write(tmp_path, values), *places).out


def test_show_prints_the_table_and_writes_every_format(results, tmp_path):
    shown = dubio("bench", "show", results, "--draws", 50, "--out", tmp_path)
    assert shown.code == 0, shown
    assert re.search(r"\| Softmax response +\|", shown.out)
    assert "LoRA ensemble" in shown.out
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", "tables.md", "tables.tex", "methods.parquet", "systems.parquet"
    }  # fmt: skip
    lines = (tmp_path / "tables.tex").read_text().splitlines()
    assert lines[2].startswith(r"\begin{tabular}{l")
    assert all(line.count("&") == lines[4].count("&") for line in lines[6:8])
    record = parquet.read_table(tmp_path / "methods.parquet").to_pylist()[0]
    assert record["seeds"] == 2
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert "±" in page


def resealed(text, old, new):
    """The JSON of an outcome with other words in it, as the grid itself would have written it."""
    facts = json.loads(text.replace(old, new))
    body = {key: value for key, value in facts.items() if key != "sha256"}
    return json.dumps({**body, "sha256": sha256_json(body)}).encode()


def test_two_sets_get_a_critical_difference(results, tmp_path):
    twice = tmp_path / "small"
    twice.mkdir()
    values = yaml.safe_load((results / "config.yaml").read_text())
    values["data"]["other"] = values["data"]["topics"]
    (twice / "config.yaml").write_text(yaml.safe_dump(values))
    for path in results.glob("tiny-topics-*"):
        (twice / path.name).write_bytes(path.read_bytes())
        other = twice / path.name.replace("topics", "other")
        text = path.read_bytes()
        other.write_bytes(resealed(text, b'"topics"', b'"other"') if path.suffix == ".json" else text)
    shown = dubio("bench", "show", twice, "--draws", 50, "--out", tmp_path / "out")
    assert shown.code == 0, shown
    assert "<svg" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("metric", ["nll", "accuracy", "ece_equal_width_15", "aurc"])
def test_systems_and_scores_by_any_metric(results, metric):
    shown = dubio("bench", "show", results, "--metric", metric, "--draws", 20)
    assert shown.code == 0, shown
    assert ("the adapter itself" if metric != "aurc" else "softmax response") in shown.out
    pair = dubio("bench", "compare", results, "system:ensemble", "system:adapter", "--metric", metric, "--draws", 20)
    assert pair.code == 0, pair


def test_the_mean_of_a_posterior_has_a_table_of_its_own(results):
    shown = dubio("bench", "show", results, "--predictions", "ensemble", "--draws", 20)
    assert shown.code == 0, shown
    assert "Anchored probe" in shown.out
    assert "### small: error ROC-AUC, judged on the predictions of ensemble" in shown.out


def test_the_page_on_a_posteriors_predictions_says_so(results, tmp_path):
    shown = dubio("bench", "show", results, "--predictions", "ensemble", "--draws", 0, "--out", tmp_path)
    assert shown.code == 0, shown
    assert "<h1>small, judged on the predictions of ensemble</h1>" in (tmp_path / "index.html").read_text()


def test_the_table_of_systems_holds_what_the_cells_hold(results):
    cells = [json.loads((results / f"tiny-topics-{seed}.json").read_text())["metrics"] for seed in (0, 1)]
    line = next(row for row in dubio("bench", "show", results, "--draws", 0).out.splitlines()
                if row.startswith("| LoRA ensemble") and ":" not in row)  # fmt: skip
    shown = [cell.strip() for cell in line.split("|")[3:7]]
    means = {m: sum(cell["system:ensemble"][m] for cell in cells) / 2
             for m in ("accuracy", "nll", "ece_equal_width_15", "aurc")}  # fmt: skip
    expected = [100 * means["accuracy"], means["nll"], 100 * means["ece_equal_width_15"], means["aurc"]]
    assert [float(value) for value in shown] == pytest.approx(expected, abs=0.06)
    assert float(shown[1]) == pytest.approx(means["nll"], abs=6e-4)


def test_the_reference_is_always_shown(results):
    assert "Softmax response" in dubio("bench", "show", results, "--methods", "md", "--draws", 0).out


def test_outcomes_of_another_config_are_passed_over(results, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    for path in results.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for kind in ("json", "parquet"):
        (folder / f"old-set-0.{kind}").write_bytes((folder / f"tiny-topics-0.{kind}").read_bytes())
    shown = dubio("bench", "show", folder, "--draws", 0)
    assert shown.code == 0, shown
    assert "old-set-0" in shown.err
    assert "2 seeds" in shown.out


def test_other_metrics(results):
    shown = dubio("bench", "show", results, "--metric", "ood_roc_auc", "--draws", 0, "--methods", "softmax_response,md")
    assert shown.code == 0, shown
    assert "OOD ROC-AUC" in shown.out


def test_compare_two_methods(results):
    shown = dubio("bench", "compare", results, "probe", "--draws", 100)
    assert shown.code == 0, shown
    assert "Anchored probe on calibration against softmax response" in shown.out
    system = dubio("bench", "compare", results, "system:ensemble", "system:adapter", "--metric", "nll")
    assert system.code == 0, system
    # By a metric of predictions the adapter itself is what the default stands for.
    assert dubio("bench", "compare", results, "system:ensemble", "--metric", "nll").out == system.out
    assert "nan" not in system.out


COLUMNS = "source,model,dataset,method,config,metric,value,std,unit"  # of a table of published numbers


def with_config(results, tmp_path, values):
    """A copy of the results under another config."""
    folder = shutil.copytree(results, tmp_path / "small")
    configure(folder, values)
    return folder


def configure(folder, values):
    """Another config, and cells that are sealed with it, as a run under it would leave them."""
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    cells = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(sealed(unsealed(cells), config=folder / "config.yaml")))


def test_a_config_that_was_edited_after_the_run_is_refused(results, tmp_path):
    folder = shutil.copytree(results, tmp_path / "small")
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "# mine\n")
    shown = dubio("bench", "show", folder, "--draws", 0)
    assert (shown.code, "is not the one that was run" in shown.err) == (2, True), shown


def test_published_numbers_stand_beside(results, tmp_path):
    values = yaml.safe_load((results / "config.yaml").read_text())
    values["published"] = {"source": "A paper", "methods": {"AdUE (Ours)": "adue_unguarded"}}
    values["data"]["topics"]["published"] = "S2"
    folder, table = with_config(results, tmp_path, values), tmp_path / "published.csv"
    table.write_text(
        f"{COLUMNS}\n"
        "A paper T1,big,S1,SR,,error ROC-AUC,70,1,%\nA paper T1,big,S1,AdUE (Ours),,error ROC-AUC,71.5,1,%\n"
        "A paper T1,big,S2,SR,,error ROC-AUC,80,,%\nA paper T1,big,S2,AdUE (Ours),,error ROC-AUC,80.1,1,%\n"
    )
    shown = dubio("bench", "show", folder, "--draws", 20, "--published", table)
    assert shown.code == 0, shown
    assert "+0.10 (1)" in shown.out  # the grid has S2 alone
    line = next(row for row in shown.out.splitlines() if row.startswith("| AdUE on train errors") and "tiny" in row)
    assert [cell.strip() for cell in line.split("|")[4:6]] == ["+0.1", "+0.1 to +0.1 (1)"]
    other = dubio("bench", "show", folder, "--draws", 0, "--metric", "aurc", "--published", table)
    assert "paper" not in other.out
    assert "published" not in other.out
    assert other.err == ""
    unnamed = dubio("bench", "show", results, "--draws", 0, "--published", table)
    assert (unnamed.code, unnamed.err.count("\n")) == (0, 1)
    assert "names no published rows" in unnamed.err
    table.write_text("not,a,table\n1,2,3\n")
    assert dubio("bench", "show", folder, "--published", table).code == 2


def test_published_systems_stand_beside(results, tmp_path):
    values = yaml.safe_load((results / "config.yaml").read_text())
    values["published"] = {"source": "A paper", "systems": [
        {"theirs": "LoRA", "config": "r=8", "ours": "adapter"},
        {"theirs": "B-LoRA-XS", "ours": "cores", "data": "Other"},
        {"theirs": "nothing", "ours": "lora_xs"},
        {"theirs": "LoRA", "config": "r=2", "ours": "ensemble", "members": True},
    ]}  # fmt: skip
    values["data"]["topics"]["published"] = "S1"
    folder, table = with_config(results, tmp_path, values), tmp_path / "published.csv"
    table.write_text(
        f"{COLUMNS}\n"
        "A paper T1,big,S1,LoRA,r=8,ACC,0.865,,fraction\nA paper T1,big,S1,LoRA,r=2,ACC,0.1,,fraction\n"
        "A paper T2,big,Other,B-LoRA-XS,,ACC,91.2,,% of all\nA paper T2,big,Other,B-LoRA-XS,,NLL,0.25,,nats\n"
    )
    shown = dubio("bench", "show", folder, "--draws", 0, "--published", table, "--out", tmp_path / "out")
    assert shown.code == 0, shown
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in shown.out.splitlines() if "| big " in row]
    cells = [json.loads((results / f"tiny-topics-{seed}.json").read_text())["metrics"] for seed in (0, 1)]
    own = 50 * sum(cell["system:adapter"]["accuracy"] for cell in cells)
    assert rows[0][1:4] == ["LoRA (r=8)", "tiny topics", "big S1"]
    assert rows[0][5:] == ["86.5", rows[0][6], "–", rows[0][8], "–"]
    assert float(rows[0][4]) == pytest.approx(own, abs=0.06)
    assert (rows[1][1], rows[1][3], rows[1][5], rows[1][7]) == ("B-LoRA-XS", "big Other", "91.2", "0.250")
    assert rows[2][:2] == ["LoRA ensemble, its members", "LoRA (r=2)"]
    facts = [json.loads((results / f"tiny-topics-{seed}.json").read_text())["members"]["ensemble"] for seed in (0, 1)]
    for column, metric, digits in ((4, "accuracy", 100), (6, "nll", 1), (8, "ece_equal_width_15", 100)):
        assert float(rows[2][column]) == pytest.approx(digits * sum(f[metric] for f in facts) / 2, abs=0.0006 * digits)
    assert len(rows) == 3
    assert {r["published"] for r in parquet.read_table(tmp_path / "out" / "published_systems.parquet").to_pylist()} == {
        0.865, 0.912, 0.25, 0.1, None
    }  # fmt: skip
    assert "No published row of A paper: nothing." in shown.out
    # Where none has a row there is no table, and standard error says why; the table written before goes.
    values["published"]["systems"] = [{"theirs": "LORA", "ours": "adapter"}]
    configure(folder, values)
    none = dubio("bench", "show", folder, "--draws", 0, "--published", table, "--out", tmp_path / "out")
    assert (none.code, none.err) == (0, "note: No published row of A paper: LORA.\n")
    assert not (tmp_path / "out" / "published_systems.parquet").exists()
    values["published"]["systems"][0]["ours"] = "nowhere"
    configure(folder, values)
    assert "there is no system 'nowhere'" in dubio("bench", "show", folder).err


def test_a_posterior_is_set_beside_its_own_samples(results):
    line = next(row for row in dubio("bench", "show", results, "--draws", 0).out.splitlines()
                if row.startswith("| LoRA ensemble") and ":" not in row)  # fmt: skip
    cells = [json.loads((results / f"tiny-topics-{seed}.json").read_text()) for seed in (0, 1)]
    shares = [1 - c["metrics"]["system:ensemble"]["aurc"] / c["members"]["ensemble"]["aurc"] for c in cells]
    assert line.split("|")[8].strip() == f"{50 * sum(shares):.1f} %"


WRONG = {
    "no config": (("run", "nowhere.yaml"), "there is no file nowhere.yaml"),
    "an unknown executor": (("run", "GRID", "--executor", "slurm"), "no executor"),
    "an address without Ray": (("run", "GRID", "--address", "auto"), "--address"),
    "a cell that is not there": (("status", "GRID", "--only", "seed=7"), "seed=7"),
    "no results": (("show", "."), "no results"),
    "no such metric": (("show", "RESULTS", "--metric", "auc"), "no metric"),
    "no predictions": (("show", "RESULTS", "--predictions", "laplace"), "it judges: own, ensemble, kfold"),
    "no predictions to compare on": (("compare", "RESULTS", "probe", "--predictions", "laplace"), "it judges: own"),
    "a score by a metric of predictions": (("show", "RESULTS", "--metric", "nll", "--methods", "md"), "'md' with nll"),
    "a score compared by one": (("compare", "RESULTS", "md", "--metric", "nll"), "there are: system:adapter"),
    "no such method": (("compare", "RESULTS", "mdd"), "mdd"),
    "no such method at all": (("show", "RESULTS", "--methods", "mdd"), "'mdd'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_line_and_exit_code_2(small, results, tmp_path, name):
    arguments, told = WRONG[name]
    places = {"GRID": write(tmp_path, config(small)), "RESULTS": results, ".": tmp_path}
    done = dubio("bench", *(places.get(a, a) for a in arguments))
    assert done.code == 2, done
    assert told in done.err
    assert done.err.count("\n") == 1
    assert {path.name for path in Path(tmp_path).iterdir()} <= {"grid.yaml"}
