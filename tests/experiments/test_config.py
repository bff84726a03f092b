"""What a config may say, and the one line in which a wrong one is refused."""

import pytest
from tiny_grid import config, write

from dubio.errors import DubioError
from dubio_bench.grid.config import DataSet, read_config


def test_a_config_is_read(small, tmp_path):
    grid = read_config(write(tmp_path, config(small)))
    assert grid.seeds == (0, 1)
    assert grid.data["topics"].rows.train == 200


def changed(*path, to):
    def change(values):
        at = values
        for part in path[:-1]:
            at = at.setdefault(part, {})
        at[path[-1]] = to

    return change


def collide(values):
    """Model a on set b-c and model a-b on set c."""
    values["models"] = dict.fromkeys(("a", "a-b"), values["models"]["tiny"])
    values["data"] = dict.fromkeys(("c", "b-c"), values["data"]["topics"])


WRONG = {
    "an unknown key": (changed("sedes", to=[1]), "sedes"),
    "no seeds": (changed("seeds", to=[]), "seeds"),
    "a seed twice": (changed("seeds", to=[1, 1]), "twice"),
    "an unknown family": (changed("models", "tiny", "family", to="ernie"), "models.tiny.family"),
    "an unknown training setting": (changed("training", "learning_rat", to=1), "learning_rat"),
    "a setting of a posterior's run": (changed("posteriors", "ensemble", to={"training": {"rang": 2}}), "rang"),
    "an unknown posterior": (changed("posteriors", "lapalce", to={}), "lapalce"),
    "an unknown setting of a posterior": (changed("posteriors", "tfb", to={"plan": {"members": 2}}), "members"),
    "an unknown setting of a trained one": (changed("posteriors", "blob", to={"plan": {"betta": 2}}), "betta"),
    "a bad value of one": (changed("posteriors", "blob", to={"plan": {"kl_schedule": "never"}}), "kl_schedule"),
    "a rate that drops all": (changed("posteriors", "mc_dropout", to={"plan": {"rate": 1.0}}), "out of range"),
    "a kind of mask": (changed("posteriors", "mc_dropout", to={"plan": {"masks": "row"}}), "sample, token"),
    "a word for yes": (
        changed("posteriors", "laplace_lora", to={"plan": {"linear": "no"}}),
        "linear: 'no' is not a bool",
    ),
    "alone of what has no run": (changed("posteriors", "laplace", to={"alone": "x"}), "run of its own"),
    "an unknown method": (changed("methods", to=["softmax_response", "mdd"]), "mdd"),
    "a variant of nothing": (changed("variants", "new", to={"of": "adeu"}), "variants.new.of"),
    "a variant with a bad option": (
        changed("variants", "new", to={"of": "adue", "alfas": [1]}),
        "variants.new: unknown setting 'alfas'; did you mean 'alphas'?",
    ),
    "a variant called as a method": (changed("variants", "md", to={"of": "rmd"}), "variants.md"),
    "predictions of nothing": (changed("predictions", to=["ensemble"]), "ensemble"),
    "resources of no step": (changed("resources", "training", to={"cpus": 2}), "training"),
    "text where a number stands": (changed("training", "learning_rate", to="5e-4"), "YAML reads 5e-4 as text"),
    "a number out of range": (changed("training", "epochs", to=0), "training.epochs"),
    "a dropout above 1": (changed("training", "dropout", to=7), "training.dropout"),
    "no incumbent": (changed("methods", to=["md"]), "softmax_response"),
    "no methods": (changed("methods", to=[]), "softmax_response"),
    "a reserved name": (changed("posteriors", "represent", to={"kind": "laplace"}), "represent"),
    "a run for what has none": (changed("posteriors", "laplace", to={"training": {"rank": 2}}), "laplace.training"),
    "stages without names": (changed("posteriors", "ensemble", to={"plan": {"keep": "1,2"}}), "use stages"),
    "a stage after the last": (changed("posteriors", "ensemble", to={"stages": {"a": 2, "b": 3}}), "stages.b"),
    "a stage of nothing": (changed("posteriors", "ensemble", to={"stages": {"a": 0}}), "stages.a"),
    "stages of one adapter": (changed("posteriors", "blob", to={"stages": {"a": 1}}), "ensemble and kfold"),
    "members of one adapter": (
        changed("published", to={"source": "x", "systems": [{"theirs": "y", "ours": "adapter", "members": True}]}),
        "'adapter' has no members",
    ),
    "predictions of a stage": (
        lambda values: values.update(posteriors={"ensemble": {"stages": {"a": 1}}}, predictions=["a"]),
        "stages are systems only",
    ),
    "a stage called as another": (
        changed("posteriors", to={"ensemble": {"stages": {"blob": 1}}, "blob": {}}),
        "name blob",
    ),
    "what others are made by": (changed("posteriors", "blob", to={"plan": {"members": 2}}), "members has no effect"),
    "one name for two": (changed("posteriors", to={n: {"kind": "swag_lora", "alone": "x"} for n in "ab"}), "name x"),
    "one cell for two": (collide, "a-b-c-0"),
    "no test table": (lambda values: values["data"]["topics"].pop("test"), "data.topics.test"),
    "a share of nothing": (changed("certification", to=0), "certification"),
    "a seed below 0": (changed("seeds", to=[0, -1]), "seeds.1: should be greater than or equal to 0, not -1"),
    "a seed too great": (changed("seeds", to=[2**32]), "should be less than 4294967296"),
    "a seed as text": (changed("seeds", to=["0"]), "seeds.0: should be a whole number, not '0'"),
    "a word for a seed": (changed("seeds", to=[True]), "should be a whole number, not True"),
    "a bad seed of the cuts": (changed("data", "topics", "seed", to=-1), "data.topics.seed"),
    "more samples than members": (
        changed("posteriors", "ensemble", to={"plan": {"members": 2}, "samples": 3}),
        "posteriors.ensemble.samples: there are 2 members, not 3",
    ),
    "more than members by default": (changed("posteriors", "ensemble", to={"samples": 6}), "there are 5 members"),
    "more samples than heads": (changed("posteriors", "heads", to={"samples": 11}), "there are 10 members"),
    "a method twice": (changed("methods", to=["softmax_response", "md", "md"]), "methods: md is named twice"),
    "all rows as a share": (changed("data", "topics", "rows", to={"calibration": 1.0}), "1 is neither a share"),
    "a row and a half": (changed("data", "topics", "rows", to={"validation": 1.5}), "rows.validation: 1.5 is neither"),
    "rows as text": (changed("data", "topics", "rows", to={"validation": "0.2"}), "should be a number, not '0.2'"),
    "published of no method": (
        changed("published", to={"source": "x", "methods": {"MD": "mdd"}}),
        "published.methods.MD: 'mdd' is no method of this grid; did you mean 'md'?",
    ),
    "published of a method that is left out": (
        changed("published", to={"source": "x", "methods": {"RMD": "rmd"}}),
        "published.methods.RMD: 'rmd' is no method of this grid",
    ),
    "a misspelt method": (changed("methods", to=["softmax_response", "adeu"]), "'adeu'; did you mean 'adue'?"),
    "a misspelt setting": (
        changed("data", "topics", "tran", to="x"),
        "data.topics: unknown setting 'tran'; did you mean 'train'?; known: train, test, validation,",
    ),
    "an unknown setting of rows": (
        changed("data", "topics", "rows", to={"all": 3}),
        "data.topics.rows: unknown setting 'all'; known: train, test, validation, calibration",
    ),
    "an unknown setting of a published system": (
        changed("published", to={"source": "x", "systems": [{"theirs": "a", "ours": "adapter", "who": 1}]}),
        "published.systems.0: unknown setting 'who'; known: theirs, ours, config, data, members",
    ),
    "one method, no list": (changed("methods", to="md"), "methods: should be a list, not 'md'"),
    "sets as a list": (changed("data", to=["sst2"]), "data: should be a mapping of names"),
    "a set without settings": (changed("data", "topics", to="sst2"), "data.topics: should be a mapping of settings"),
    "no sets": (changed("data", to={}), "data: name at least one"),
    "a posterior without settings": (
        changed("posteriors", "ensemble", to=None),
        "posteriors.ensemble: should be a mapping of settings, not nothing",
    ),
    "a setting misspelt and so missing": (
        lambda values: values["data"]["topics"].update(tests=values["data"]["topics"].pop("test")),
        "unknown setting 'tests'; did you mean 'test'?",
    ),
    "a number for a setting": (changed("data", "topics", 3, to="x"), "data.topics: the name 3 should be text"),
    "a number for a name": (lambda values: values["data"].update({2: {}}), "data: the name 2 should be text"),
    "a name with a blank": (
        lambda values: values["data"].update({"a b": {}}),
        "data: the name 'a b' should be letters",
    ),
}


@pytest.mark.parametrize(
    ("seeds", "posteriors", "told"),
    [
        ([0, 1], {"ensemble": {"plan": {"members": 2}}}, ("ensemble", 2)),
        ([2, 0], {"ensemble": {"plan": {"members": 2}}}, None),
        ([0, 9, 5], {"five": {"kind": "ensemble"}}, ("five", 5)),
        ([0, 1], {"folds": {"kind": "kfold", "plan": {"members": 4}}}, None),
        ([3], {"ensemble": {}}, None),
        ([0, 1], {"mc_dropout": {}}, None),
    ],
)
def test_ensembles_that_share_members_are_noted(small, tmp_path, seeds, posteriors, told):
    grid = read_config(write(tmp_path, config(small, seeds=seeds, posteriors=posteriors)))
    assert grid.shared_members() == told


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_config_is_refused_in_one_line(small, tmp_path, name):
    change, told = WRONG[name]
    values = config(small)
    change(values)
    path = write(tmp_path, values)
    with pytest.raises(DubioError) as refused:
        read_config(path)
    message = str(refused.value)
    assert str(path) in message
    assert told in message
    assert "\n" not in message
    assert not any(word in message for word in ("Input", "tuple", "Tuple", "dictionary", "[key]", "permitted"))


@pytest.mark.parametrize("rows", [0.2, 2, 2000.0])
def test_rows_are_a_share_or_a_number(small, tmp_path, rows):
    values = config(small)
    values["data"]["topics"]["rows"] = {"calibration": rows}
    found = read_config(write(tmp_path, values)).data["topics"]
    assert found.rows.calibration == rows
    assert DataSet.model_validate(found.model_dump(mode="json")) == found  # as steps hand it on


def test_as_many_samples_as_members_are_drawn(small, tmp_path):
    posteriors = {"ensemble": {"plan": {"members": 7}, "samples": 7}, "mc_dropout": {"samples": 99}}
    assert read_config(write(tmp_path, config(small, posteriors=posteriors))).posteriors["ensemble"].samples == 7


@pytest.mark.parametrize("ours", ["md", "mine", "mc_dropout.variance"])
@pytest.mark.parametrize("methods", [None, ["softmax_response", "md", "mc_dropout.variance"]])
def test_published_methods_stand_beside_any_of_the_grid(small, tmp_path, ours, methods):
    values = config(
        small,
        methods=methods,
        variants={"mine": {"of": "md"}},
        posteriors={"mc_dropout": {}},
        published={"source": "x", "methods": {"Theirs": ours}},
    )
    assert read_config(write(tmp_path, values)).published.methods == {"Theirs": ours}


@pytest.mark.parametrize(
    ("again", "told"),
    [
        ("seeds: [7]\n", "'seeds' stands in line"),
        ("posteriors: {blob: {}, tfb: {}, blob: {samples: 3}}\n", "'blob' stands in line"),
        ('"seeds": [7]\n', "'seeds' stands in line"),
    ],
)
def test_a_key_that_stands_twice_is_refused(small, tmp_path, again, told):
    path = write(tmp_path, config(small))
    with path.open("a") as opened:
        opened.write(again)
    line = len(path.read_text().splitlines())
    with pytest.raises(DubioError, match=f"line {line}: {told}") as refused:
        read_config(path)
    assert str(path) in str(refused.value)


def test_what_is_merged_may_be_overridden(small, tmp_path):
    path = write(tmp_path, config(small))
    with path.open("a") as opened:
        opened.write("posteriors:\n")
        opened.write("  a: &a {kind: ensemble, samples: 2}\n  b: &b {<<: *a, samples: 3}\n  c: {<<: *b, samples: 4}\n")
    found = read_config(path).posteriors
    assert [(found[name].kind, found[name].samples) for name in "abc"] == [("ensemble", n) for n in (2, 3, 4)]


@pytest.mark.parametrize("text", ["a: [", "just words", "\xff", "a: 2024-13-45"])
def test_what_is_not_a_config_is_refused(tmp_path, text):
    path = tmp_path / "grid.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DubioError, match=str(path)):
        read_config(path)


def test_an_absent_config_is_refused(tmp_path):
    with pytest.raises(DubioError, match="there is no file"):
        read_config(tmp_path / "grid.yaml")
