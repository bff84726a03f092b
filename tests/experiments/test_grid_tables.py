"""Tables: what their notes say and do not say, the published rows, and how they are written."""

import re

import numpy as np
import pytest

from dubio.errors import DubioError
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio_bench.grid.config import Grid
from dubio_bench.grid.published import Number
from dubio_bench.results import export as rendering
from dubio_bench.results import published_tables as beside
from dubio_bench.results import tables
from dubio_bench.results.cell_result import Outcome, dense_ranks
from dubio_bench.results.statistics import compare


def grid(published=None, sets=("one",), seeds=(0,), names=None):
    data = {d: {"train": "a", "test": "b", "published": (names or {}).get(d)} for d in sets}
    return Grid.model_validate({
        "name": "grid", "about": "a test", "models": {"tiny": {"base": "c", "family": "bert"}}, "data": data,
        "seeds": seeds, "posteriors": {"ensemble": {}}, "predictions": ["ensemble"], "published": published,
    })  # fmt: skip


def outcome(data="one", seed=0, whose="own", rows=80):
    """Two scores and two systems, ECE and OOD figures as measured."""
    g = np.random.default_rng([seed, len(data)])
    wrong = g.random(rows) < 0.3
    systems = {name: (wrong, g.random(rows).astype(np.float32), dense_ranks(g.random(rows)))
               for name in (ADAPTER, "ensemble")}  # fmt: skip
    figures = {f"system:{name}": {"ece_equal_width_15": 0.1 * i, "accuracy": 0.7} for i, name in enumerate(systems, 1)}
    figures |= {REFERENCE: {"ood_roc_auc": 0.6}, "md": {"ood_roc_auc": 0.7}}
    facts = {"cell": {"model": "tiny", "data": data, "seed": seed, "predictions": whose}, "metrics": figures,
             "methods": {}}  # fmt: skip
    ranks = {REFERENCE: dense_ranks(wrong + g.normal(size=rows)), "md": dense_ranks(g.random(rows))}
    return Outcome(facts, wrong, ranks, systems)


def number(method, value, data="S1", metric="error ROC-AUC", source="A paper Table 1", config="", model="big"):
    return Number(source, model, data, method, config, metric, value, None, "%")


def methods(cells, metric="error_roc_auc", draws=50, of=None, numbers=(), whose="own"):
    found = compare(cells, metric, draws=draws, predictions=whose)
    return tables.methods_table(of or grid(), cells, found, numbers)


@pytest.mark.parametrize(("metric", "draws"), [("ece_equal_width_15", 50), ("ood_roc_auc", 50),
                                               ("error_roc_auc", 0), ("error_roc_auc", 1)])  # fmt: skip
def test_what_is_not_tested_is_no_tie(metric, draws):
    made = methods([outcome(seed=0), outcome(seed=1)], metric, draws)
    assert sorted(row[3] for row in made.rows) == ["", "–"]
    assert "interval" not in made.note
    assert "Holm" not in made.note


def test_times_of_machines_that_differ_are_told():
    """By the GPU that a step had, else by the cell's processor."""
    cells = [outcome(seed=seed) for seed in (0, 1)]
    for cell, gpu in zip(cells, (None, "a GPU"), strict=True):
        cell.facts.update(machine={"processor": "a CPU"}, took={"adapter": {"gpu": gpu}, "score": {"gpu": gpu}})
    for told, seen in ((True, cells), (False, cells[:1])):
        made = (methods(seen, of=grid(seeds=(0, 1))), tables.systems_table(grid(seeds=(0, 1)), seen, 0))
        assert [("Times are of machines that differ: a CPU, a GPU." in table.note) for table in made] == [told] * 2


def test_what_is_tested_says_how():
    made = methods([outcome(seed=0), outcome(seed=1)])
    assert sorted(row[3].count("/") for row in made.rows) == [0, 2]
    assert "intervals: 95 %, paired, over rows and seeds; w/t/l" in made.note


def test_notes_say_what_their_table_holds():
    cells = [outcome(seed=0), outcome(seed=1)]
    plain, systems = methods(cells), tables.systems_table(grid(), cells, 50)
    found = compare(cells, "error_roc_auc", draws=50)
    pair = tables.pair_table(found, "md", REFERENCE)
    assert "error ROC-AUC in percent, gains in points" in plain.note
    assert "accuracy and ECE in percent" in systems.note
    assert "error ROC-AUC in percent, differences in points" in pair.note
    assert ("w/t/l" in plain.note, "w/t/l" in systems.note, "w/t/l" in pair.note) == (True, False, False)
    assert ("s.d." in plain.note, "s.d." in systems.note, "s.d." in pair.note) == (True, True, False)
    assert "intervals" in pair.note
    assert "percent" not in methods(cells, "aurc").note
    untested = tables.pair_table(compare(cells, "ood_roc_auc", draws=50), "md", REFERENCE)
    assert untested.rows[0][-1] == "–"


def test_one_is_not_plural_and_has_no_spread():
    note = methods([outcome()]).note
    assert note.startswith("1 pair of model and set, 1 seed;")
    assert "s.d." not in note
    assert methods([outcome(d) for d in ("one", "other")]).note.startswith("2 pairs of model and set, 1 seed;")


def test_cells_that_are_not_there_are_told():
    whole = grid(sets=("one", "other"), seeds=(0, 1))
    some = [outcome(), outcome("other"), outcome(seed=1)]
    assert methods(some, of=whole).note.startswith("3 of 4 cells; ")
    assert tables.systems_table(whole, some, 0).note.startswith("3 of 4 cells; ")
    assert " cells" not in methods([*some, outcome("other", 1)], of=whole).note
    # Cells of other predictions are others.
    assert methods([*some, outcome("other", 1, "ensemble")], of=whole).note.startswith("3 of 4 cells; ")


def test_titles_name_whose_predictions_are_judged():
    cells = [outcome(whose="ensemble")]
    made = methods(cells, whose="ensemble")
    assert made.title == "grid: error ROC-AUC, judged on the predictions of ensemble"
    assert {record["predictions"] for record in made.records} == {"ensemble"}
    assert methods([outcome()]).title == "grid: error ROC-AUC"
    pair = tables.pair_table(compare(cells, "error_roc_auc", draws=0, predictions="ensemble"), "md", REFERENCE)
    assert pair.title.endswith("judged on the predictions of ensemble")


GAINS = [number("SR", 70, source="A paper Table 1"), number("MD", 72, source="A paper, read from its figure")]


def test_gains_name_their_sources_and_what_has_no_row():
    spec = {"source": "A paper", "methods": {"MD": "md", "MDD": "md", "Probe": "probe"}}
    own = grid(spec, ("one", "other"), names={"one": "S1", "other": "S9"})
    cells = [outcome(), outcome("other")]
    missing = "No published row of A paper: MDD, Probe, S9."
    made = beside.gains_beside(own, compare(cells, "error_roc_auc", draws=0), GAINS)
    assert "A paper, read from its figure; A paper Table 1." in made.note
    assert made.note.endswith(missing)
    note = methods(cells, of=own, numbers=GAINS).note
    assert "The paper’s gain (over how many): A paper, read from its figure." in note
    assert note.endswith(missing)


def test_gains_that_all_match_are_not_called_missing():
    own = grid({"source": "A paper", "methods": {"MD": "md"}}, names={"one": "S1"})
    cells = [outcome()]
    for table in (methods(cells, of=own, numbers=GAINS),
                  beside.gains_beside(own, compare(cells, "error_roc_auc", draws=0), GAINS)):  # fmt: skip
        assert "No published row" not in table.note
    assert "paper" not in methods(cells, "aurc", of=own, numbers=GAINS).note
    # Without their reference there is no gain, and that is said.
    assert "No published row of A paper: SR." in methods(cells, of=own, numbers=GAINS[1:]).note


def test_systems_name_their_sources_and_what_has_no_row():
    spec = {"source": "A paper", "systems": [
        {"theirs": "LoRA", "ours": ADAPTER}, {"theirs": "LORA", "config": "r=2", "ours": ADAPTER},
        {"theirs": "Five", "ours": "ensemble", "data": "Far"}, {"theirs": "Six", "ours": "ensemble", "data": "Near"},
    ]}  # fmt: skip
    own = grid(spec, ("one", "other"), names={"one": "S1", "other": "S9"})
    numbers = [number("LoRA", 90, metric="ACC", source="A paper Table 1"),
               number("LoRA", 0.3, metric="NLL", source="A paper Table 10"),
               number("LoRA", 0.1, metric="ECE", source="A paper Table 4"),
               number("Five", 91, "Far", "ACC", "A paper, read from its figure")]  # fmt: skip
    made = beside.systems_beside(own, [outcome(), outcome("other")], numbers)
    assert made.note.startswith(
        "Source of the published rows: A paper Table 1, 4, 10; A paper, read from its figure. Other models"
    )
    assert made.note.endswith("No published row of A paper: LORA (r=2), Six on Near, S9.")
    assert "No published row" not in beside.systems_beside(
        grid({"source": "A paper", "systems": spec["systems"][:1]}, names={"one": "S1"}), [outcome()], numbers
    ).note  # fmt: skip


def test_scores_have_no_metric_of_predictions():
    cells = [outcome()]
    for metric in ("nll", "accuracy", "brier", "ece_equal_width_15"):
        with pytest.raises(DubioError, match=f"no cell has a method 'md' with {metric}; "):
            compare(cells, metric, methods=["md", "system:adapter"], draws=0)
    with pytest.raises(DubioError, match="there are: system:adapter, system:ensemble"):
        compare(cells, "nll", methods=["md"], draws=0)
    with pytest.raises(DubioError, match="nothing has that metric"):
        compare(cells, "brier", methods=["system:adapter"], draws=0)
    assert np.isfinite(list(compare(cells, "nll", draws=0).ranks.values())).all()


def test_markdown_of_narrow_columns_has_a_rule():
    rule = rendering.markdown_rows(("a", "b", ""), [("1", "2", "3")]).splitlines()[1]
    assert rule == "| --- | --: | --: |"
    wide = rendering.markdown_rows(("name", "value"), [("x", "1")])
    assert wide == "| name | value |\n| ---- | ----: |\n| x    | 1     |"


def table(name, *rows):
    return tables.Table(name, name, "", ("a", "b", "c"), rows or (("x", "1", "y"),), ({"a": 1},))


def test_tables_of_an_earlier_save_go_and_nothing_else(tmp_path):
    (tmp_path / "notes.parquet").write_text("mine")
    rendering.save(tmp_path, "t", "", [table(name) for name in rendering.NAMES], [])
    rendering.save(tmp_path, "t", "", [table("methods")], [])
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", "tables.md", "tables.tex", "methods.parquet", "notes.parquet"
    }  # fmt: skip


def test_every_table_that_is_saved_has_a_known_name():
    own = grid({"source": "A paper", "methods": {"MD": "md"}, "systems": [{"theirs": "MD", "ours": ADAPTER}]},
               names={"one": "S1"})  # fmt: skip
    cells, numbers = [outcome()], [*GAINS, number("MD", 90, metric="ACC")]
    found = compare(cells, "error_roc_auc", draws=0)
    made = (tables.methods_table(own, cells, found, GAINS), tables.systems_table(own, cells, 0),
            beside.systems_beside(own, cells, numbers), beside.gains_beside(own, found, GAINS))  # fmt: skip
    assert tuple(table.name for table in made) == rendering.NAMES


def test_the_page_sets_words_to_the_left():
    shown = table("t", ("x", "+1.0 (-2.0 to +3.0)", "LoRA (r=8)"), ("5", "80.2 ± 1.8", ""), ("x", "0/5/0", "–"))
    page = rendering.page("t", "", [shown], [])
    assert re.findall(r"<t[hd]( class=\"words\")?>", page) == [' class="words"', "", ' class="words"'] * 4
    assert "nowrap" not in page[page.index("th {") : page.index("</style>")]
