"""What a config may say, and the one line in which a wrong one is refused."""

import pytest
from tiny_grid import config, write

from dubio.errors import DubioError
from dubio.experiments.config import read_config


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
    "a variant with a bad option": (changed("variants", "new", to={"of": "adue", "alfas": [1]}), "alfas"),
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


@pytest.mark.parametrize("text", ["a: [", "just words", "\xff"])
def test_what_is_not_a_config_is_refused(tmp_path, text):
    path = tmp_path / "grid.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DubioError, match=str(path)):
        read_config(path)


def test_an_absent_config_is_refused(tmp_path):
    with pytest.raises(DubioError, match="cannot read"):
        read_config(tmp_path / "grid.yaml")
