"""`benchmarks/same_numbers.py` finds what changed: planted differences, and a fit on arrays against other inputs."""

import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def entries(value):
    from same_numbers_entries import flat

    return json.loads(json.dumps(flat("part", value)))


def compared(before, after, **options):
    from same_numbers_entries import compare

    return compare(entries(before), entries(after), **options)


def test_equal_entries_are_equal():
    value = {"md": {"mean": np.arange(6.0).reshape(2, 3), "gain": 0.1, "none": None, "odd": float("nan")}}
    lines, same = compared(value, value)
    assert (same, lines) == (
        True,
        ["4 entries: 4 equal to the bit, 0 differ, 0 missing; 0 new; words of 0 pages changed"],
    )


def test_missing_differing_and_new_entries_are_told():
    lines, same = compared({"gone": 1, "moved": 0.5, "kept": 2}, {"moved": 0.5000001, "kept": 2, "new": 3})
    assert not same
    assert "missing    part/gone" in lines
    assert "DIFFERS    part/moved: 0.5 -> 0.5000001 (by 1e-07)" in lines
    assert "new        part/new" in lines
    assert lines[-1].startswith("3 entries: 1 equal to the bit, 1 differ, 1 missing; 1 new")


@pytest.mark.parametrize(("before", "after"), [
    (0.0, -0.0), (1, 1.0), (None, 0.0), (float("nan"), None), ("adue", "md"),
    (np.float32([1, 2]), np.float64([1, 2])), (np.zeros((2, 3)), np.zeros((3, 2))),
    (np.array([1.0, 2.0]), np.array([2.0, 1.0])), (np.array(["a", "bc"]), np.array(["ab", "c"])),
])  # fmt: skip
def test_the_least_difference_is_found(before, after):
    assert compared({"value": before}, {"value": before})[1]
    assert not compared({"value": before}, {"value": after})[1]


def test_a_bit_deep_in_an_array_is_found_and_sized():
    before = np.random.default_rng(0).normal(size=(40, 5))
    after = before.copy()
    after[30, 2] = np.nextafter(after[30, 2], 9)
    lines, same = compared({"value": before}, {"value": after})
    assert not same
    assert lines[0].startswith("DIFFERS    part/value: ")
    after[0, 0] += 0.25
    assert "(by 0.25)" in compared({"value": before}, {"value": after})[0][0]


def test_what_is_new_is_no_fault_and_nothing_at_all_is_one():
    assert compared({"kept": 1}, {"kept": 1, "more": 2})[1]
    assert not compared({}, {"more": 2})[1]


def test_a_word_that_was_renamed_on_purpose_is_followed():
    before, after = {"md": {"facts_": 1.5}}, {"md": {"diagnostics": 1.5}}
    assert not compared(before, after)[1]
    assert compared(before, after, renamed={"facts_": "diagnostics"})[1]
    assert not compared(before, {"md": {"diagnostics": 1.6}}, renamed={"facts_": "diagnostics"})[1]


def test_condition_numbers_are_compared_to_nine_digits_and_nothing_else_is():
    before = [1349024.49263522, 1067404.46943134]
    for after, same in ((1067404.4694313405, True), (1067404.48, False)):
        assert compared({"condition": before}, {"condition": [before[0], after]})[1] == same
        assert compared({"condition": before[1]}, {"condition": after})[1] == same
        assert not compared({"ridge": before[1]}, {"ridge": after})[1]


def test_other_words_around_the_same_numbers_of_a_page_are_told_and_no_fault():
    from same_numbers_entries import page

    template = "# Found 12 things\n\n{{table}}\n\nThat is all.\n"
    table = "| method | gain |\n|---|---|\n| md | +0.3 ± 0.1 |\n\nOver 5 seeds."
    before = page(template, template.replace("{{table}}", table))
    for new in (table.replace("gain", "more"), table.replace("| ", "|  ").replace(" seeds", " runs")):
        lines, same = compared(before, page(template, template.replace("{{table}}", new)))
        assert (same, [line.split()[0] for line in lines[:-1]]) == (True, ["reworded"])
    for old, new in (("0.3", "0.4"), ("+0.3", "-0.3"), ("0.1", ""), ("5", "6"), ("| md", "| 1 | md")):
        assert not compared(before, page(template, template.replace("{{table}}", table.replace(old, new))))[1]
    assert page("# 7\n{{table}}\nEnd.\n", f"# 7\n{table}\nEnd.\n") == before  # the prose is nobody's computation
    assert list(page("It gains {{gain GRID md}}.\n", "It gains -7.0 (-8.7 to -5.4).\n")) == ["gain GRID md"]
    with pytest.raises(SystemExit, match="does not follow its template"):
        page(template, table)


def test_numbers_of_facts_leave_out_times_hashes_and_sentences():
    from same_numbers_entries import numbers

    facts = {"rows": 3, "why": 1, "sha256": 5, "fit_seconds": 2.0, "title": "x", "on": True, "deep": [{"a": [1, 2]}]}
    assert numbers(facts) == {"rows": 3, "on": True, "deep/0/a": [1, 2]}


def test_a_fit_on_arrays_is_collected_and_another_input_is_found():
    import same_numbers_calls as calls
    import same_numbers_data as data

    *tables, head = data.planted(3, 6, 120, 1)
    first, again = (entries(calls.fit_arrays(*tables, head, ("softmax_response", "md"))) for _ in range(2))
    assert first == again
    assert {"part/md/uncertainty", "part/md/learned/means_", "part/choice"} <= first.keys()
    features = tables[0][0].copy()
    features[0, 0] += 1e-3
    tables[0] = (features, *tables[0][1:])
    other = entries(calls.fit_arrays(*tables, head, ("softmax_response", "md")))
    assert other.keys() == first.keys()
    assert other["part/md/certified"] != first["part/md/certified"]
    assert other["part/softmax_response/uncertainty"] == first["part/softmax_response/uncertainty"]
