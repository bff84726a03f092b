"""Posteriors from the command line: trained or made, found by fit, evaluate and score, and exported for peft."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dubio.api import fit, score
from dubio.data.tables import table_of
from dubio.errors import DubioError
from dubio.measures import log_mean
from dubio.model_api import extract, open_artifact, save
from dubio.models.loading import load
from dubio.posteriors.base_model import load_host
from dubio.posteriors.registry import POSTERIORS
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from dubio.scores.registry import sampled_names
from tiny_classifier import dubio, read_rows, sentences, write_table

pytestmark = pytest.mark.usefixtures("cached")
SMALL = ("--set", "epochs=3", "--set", "learning_rate=0.03", "--set", "batch_size=32", "--set", "max_length=32")
METHODS = "softmax_response,entropy"


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Posterior -> adapter folder trained with it."""
    root, made = tmp_path_factory.mktemp("posteriors"), {}

    def make(name):
        if name not in made:
            own = {
                "ensemble": ("--members", "3", "--set", "penalty=0.001", "--set", "keep=1,3"),
                "kfold": ("--members", "3"),
                "swag_lora": ("--set", "swag_epochs=3", "--set", "collections=2", "--set", "deviations=3"),
                "swag_lora_xs": ("--set", "swag_epochs=3", "--set", "collections=2", "--set", "scale=1"),
                "blob": ("--set", "eps=0.1", "--set", "kl_schedule=constant", "--set", "flipout=yes"),
                "rank_dropout": ("--set", "log_variance=-9", "--set", "prune_above=-4"),
            }[name]
            done = dubio("train", "--train", tiny.train, "--validation", tiny.validation, "--model", tiny.base, "--out",
                         root / name, "--posterior", name, *own, *SMALL)  # fmt: skip
            assert (done.code, done.err) == (0, ""), done
            made[name] = root / name
        return made[name]

    return make


def still(stored):
    """The posterior without its spread: every draw is its mean."""
    off = {"deviation": 0.0, "log_variance": -60.0}
    tensors = {k: torch.full_like(v, off[k.split("|")[0]]) if k.split("|")[0] in off else v
               for k, v in stored.posterior.tensors.items()}  # fmt: skip
    return replace(stored, posterior=replace(stored.posterior, tensors=tensors))


def test_stages_of_an_ensemble_are_folders_of_their_own(trained, tiny, tmp_path):
    whole = trained("ensemble")
    best = json.loads((whole / "dubio_training.json").read_text())["best_epoch"]
    for epoch in (1, 3):
        stage = whole / "epochs" / str(epoch)
        stored, last = load_posterior(stage, "ensemble"), load_posterior(whole, "ensemble")
        assert (stored.samples, stored.posterior.facts["epoch"]) == (3, epoch)
        same = all(torch.equal(v[0], last.posterior.tensors[k][0]) for k, v in stored.posterior.tensors.items())
        assert same == (epoch == best)  # the first member's best epoch is what the folder above holds
        asked = ("--methods", "softmax_response,ensemble.response", "--artifact", tmp_path / str(epoch))
        fitted = dubio("fit", stage, "--calibration", tiny.calibration, *asked)
        assert fitted.code == 0, fitted
    assert {path.name for path in (whole / "epochs").iterdir()} == {"1", "3"}


@pytest.mark.parametrize("name", ["ensemble", "kfold", "swag_lora", "swag_lora_xs", "blob", "rank_dropout"])
def test_a_trained_posterior_goes_all_the_way(trained, tiny, tmp_path, name):
    adapter = trained(name)
    model = load(adapter)
    host, _ = load_host(model.base, model.labels, max_length=model.max_length)
    stored = load_posterior(adapter, name)
    table = read_rows(tiny.test)[:40]
    drawn = sample(Sampler(host, stored), [row["text"] for row in table])
    assert drawn.shape == (stored.samples, 40, 3)
    if name in ("ensemble", "kfold", "blob", "rank_dropout"):  # the adapter beside it is the first member, or the mean
        alone = extract(model, [row["text"] for row in table])
        expected = torch.log_softmax(torch.from_numpy(alone.logits), dim=1).numpy()
        first = (
            drawn
            if name in ("ensemble", "kfold")
            else sample(Sampler(host, still(stored)), [row["text"] for row in table])
        )
        np.testing.assert_allclose(first[0], expected, atol=1e-4)
    if name == "rank_dropout":
        assert 0 < stored.posterior.fact("ranks_kept") < stored.posterior.fact("ranks_trained")
    measures = ",".join(f"{name}.{measure}" for measure in ("response", "mutual_information", "temperature"))
    done = dubio("fit", adapter, "--calibration", tiny.calibration, "--methods", f"{METHODS},{measures}")
    assert done.code == 0, done
    report = tmp_path / "report"
    done = dubio("evaluate", adapter, "--test", tiny.test, "--ood", tiny.ood, "--report", report)
    assert done.code == 0, done
    found = {(m["method"], m["metric"]): m["value"] for m in json.loads((report / "metrics.json").read_text())}
    assert found[f"{name}.response", "error_roc_auc"] > 0.6
    assert found[name, "system_accuracy"] > 0.6
    assert found[f"{name}.temperature", "system_nll"] <= found[name, "system_nll"] + 0.05
    assert "As systems, each by its own predictions (test)" in done.out
    page = (report / "index.html").read_text()
    assert f"{POSTERIORS[name].title}: mean of its samples" in page
    costs = page[page.index("What each method costs") :]
    assert f"<td>{stored.samples}</td>" in costs
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.csv")
    assert done.code == 0, done
    rows = read_rows(tmp_path / "out.csv")
    assert {f"uncertainty_{m}" for m in measures.split(",")} <= set(rows[0])
    whole = sample(Sampler(host, stored), [row["text"] for row in read_rows(tiny.test)])
    accuracy = (log_mean(whole).argmax(axis=1) == [model.labels.index(r["label"]) for r in rows]).mean()
    assert found[name, "system_accuracy"] == pytest.approx(accuracy)


def test_what_is_made_from_an_adapter(tiny, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter, ignore=shutil.ignore_patterns("dubio"))
    curved = ("--rows", tiny.train, "--validation", tiny.validation, "--structure", "diag")
    for name, options in {
        "mc_dropout": ("--rate", "0.2", "--samples", "6"),
        "tfb": ("--rows", tiny.validation),
        "laplace": ("--rows", tiny.train, "--validation", tiny.validation, "--structure", "full"),
        "heads": ("--rows", tiny.validation, "--samples", "4"),
        "laplace_lora": curved,
    }.items():
        done = dubio("posterior", adapter, name, *options)
        assert done.code == 0, done
    for options, linear in (((), True), (("--draws", "--evidence", "--samples", "3"), False)):
        done = dubio("posterior", adapter, "laplace_lora", "--rows", tiny.train, *options)
        assert done.code == 0, done
        made = load_posterior(adapter, "laplace_lora")
        assert (made.samples, made.posterior.fact("linear")) == ((50, True) if linear else (3, False))
    assert dubio("posterior", adapter, "laplace_lora", *curved).code == 0
    assert load_posterior(adapter, "mc_dropout").samples == 6
    assert load_posterior(adapter, "heads").samples == 4
    assert load_posterior(adapter, "tfb").posterior.fact("sigma") > 0
    assert load_posterior(adapter, "laplace_lora").posterior.fact("structure") == "diag"
    assert load_posterior(adapter, "laplace").posterior.fact("structure") == "full"
    assert len(load_posterior(adapter, "laplace").posterior.fact("search")) == 11
    both = len(read_rows(tiny.train)) + len(read_rows(tiny.validation))
    assert len(load_posterior(adapter, "laplace_lora").rows) == both  # neither table can certify it
    done = dubio("fit", adapter, "--calibration", tiny.calibration)
    assert done.code == 0, done
    manifest = json.loads((adapter / "dubio" / "manifest.json").read_text())
    names = {entry["name"] for entry in manifest["methods"]}
    for name in ("mc_dropout", "tfb", "laplace", "laplace_lora", "heads"):
        assert set(sampled_names(name)) <= names
        assert f"posterior_{name}_sha256" in manifest["model"]
    again = dubio("posterior", adapter, "mc_dropout", "--rate", "0.3")
    assert again.code == 0
    refused = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "posterior mc_dropout is not the one that was fitted on" in refused.err
    assert not (tmp_path / "out.csv").exists()
    shutil.rmtree(adapter / "posteriors" / "mc_dropout")
    gone = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.csv")
    assert (gone.code, "there is no posterior mc_dropout" in gone.err) == (2, True)


def test_what_is_distilled_needs_no_posterior_to_score(tiny, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter, ignore=shutil.ignore_patterns("dubio"))
    assert dubio("posterior", adapter, "mc_dropout", "--rate", "0.3").code == 0
    methods = ("--methods", "softmax_response,mc_dropout.distilled")
    done = dubio("fit", adapter, "--calibration", tiny.calibration, *methods)
    assert done.code == 0, done
    shutil.rmtree(adapter / "posteriors")
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.csv")
    assert done.code == 0, done
    scored = read_rows(tmp_path / "out.csv")
    gap = [float(r["uncertainty_mc_dropout.distilled"]) - float(r["uncertainty_softmax_response"]) for r in scored]
    assert len({round(value, 6) for value in gap}) > 10
    judged = dubio("evaluate", adapter, "--test", tiny.test)
    assert judged.code == 0, judged
    assert "distilled" in judged.out
    gone = dubio("fit", adapter, "--calibration", tiny.calibration, *methods)
    assert (gone.code, "there is no posterior mc_dropout" in gone.err) == (2, True)


def test_cores_on_the_layers_of_the_paper(tiny, tmp_path):
    """B-LoRA-XS adapts query, value and both output layers; what is exported loads and is proven."""
    own = ("--posterior", "swag_lora_xs", "--set", "swag_epochs=1", "--set", "targets=query,value,output.dense")
    arguments = ("--train", tiny.train, "--validation", tiny.validation, "--model", tiny.base, "--out", tmp_path / "xs")
    done = dubio("train", *arguments, *own, *SMALL)
    assert done.code == 0, done
    stored = load_posterior(tmp_path / "xs", "swag_lora_xs")
    names = {name.partition(".layer.")[2][2:] for name in stored.form["targets"]}
    assert names == {"attention.self.query", "attention.self.value", "attention.output.dense", "output.dense"}
    model = load(tmp_path / "xs")
    host, _ = load_host(model.base, model.labels, max_length=model.max_length)
    assert sample(Sampler(host, stored), ["rain", "the goal"]).shape == (stored.samples, 2, 3)


def test_the_mean_of_a_posterior_can_be_what_is_judged(trained, tiny, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(trained("ensemble"), adapter, ignore=shutil.ignore_patterns("dubio"))
    refused = dubio("fit", adapter, "--calibration", tiny.calibration, "--predictions", "tfb")
    assert (refused.code, "there is no posterior 'tfb'" in refused.err, "ensemble" in refused.err) == (2, True, True)
    methods = ("--methods", "softmax_response,energy,md,probe_both,ensemble.mutual_information")
    arguments = ("--train", tiny.train, "--calibration", tiny.calibration, "--predictions", "ensemble")
    done = dubio("fit", adapter, *arguments, *methods)
    assert done.code == 0, done
    assert "left out energy: these logits are log-probabilities" in done.out
    assert 'posteriors="ADAPTER", mean_of="ensemble")' in (adapter / "dubio" / "README.md").read_text()
    report = tmp_path / "report"
    done = dubio("evaluate", adapter, "--test", tiny.test, "--report", report)
    assert done.code == 0, done
    systems = done.out[done.out.index("As systems") :]
    assert systems.count("│ensemble ") == 1
    assert "│adapter " not in systems
    rows = read_rows(tiny.test)
    model, stored = load(adapter), load_posterior(adapter, "ensemble")
    host, _ = load_host(model.base, model.labels, max_length=model.max_length)
    mean = log_mean(sample(Sampler(host, stored), [row["text"] for row in rows]))
    expected = [model.labels[c] for c in mean.argmax(axis=1)]
    found = {(m["method"], m["metric"]): m["value"] for m in json.loads((report / "metrics.json").read_text())}
    right = np.mean([a == row["label"] for a, row in zip(expected, rows, strict=True)])
    assert found["adapter", "accuracy"] == pytest.approx(right)
    assert "LoRA ensemble: mean of its samples, by softmax response" in (report / "index.html").read_text()
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.csv")
    assert done.code == 0, done
    scored = read_rows(tmp_path / "out.csv")
    assert [row["predicted_label"] for row in scored] == expected
    np.testing.assert_allclose([float(row["probability"]) for row in scored], np.exp(mean.max(axis=1)), atol=1e-5)
    table = extract(model, [row["text"] for row in rows], posteriors=adapter, mean_of="ensemble")
    np.testing.assert_allclose(table.logits, mean, atol=1e-5)
    assert table.features.shape == (len(rows), 32)
    fitted = open_artifact(adapter, model)
    with pytest.raises(DubioError, match="the adapter's own predictions, and what was fitted judges the mean of ens"):
        score(fitted, extract(model, ["rain"], posteriors=adapter))
    with pytest.raises(DubioError, match="needs the folder of the posterior"):
        extract(model, ["rain"], mean_of="ensemble")
    own = [row["label"] for row in rows]
    found = fit(None, extract(model, table_of([r["text"] for r in rows], own), posteriors=adapter, mean_of="ensemble"),
                methods=["softmax_response"])  # fmt: skip
    save(found, model, tmp_path / "python")
    assert open_artifact(tmp_path / "python", model).mean_of == "ensemble"


def test_rows_that_a_posterior_was_made_from_neither_certify_nor_test_it(tiny, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter, ignore=shutil.ignore_patterns("dubio"))
    held = write_table(tmp_path / "held.csv", *sentences(100, seed=77)[0])
    assert dubio("posterior", adapter, "tfb", "--rows", held).code == 0
    methods = ("--methods", f"{METHODS},tfb.response")
    for options in (methods, ("--methods", METHODS, "--predictions", "tfb")):
        refused = dubio("fit", adapter, "--calibration", held, *options)
        assert (refused.code, "of calibration are also in posterior tfb" in refused.err) == (2, True), refused
    assert dubio("fit", adapter, "--calibration", held, "--methods", METHODS).code == 0
    assert dubio("fit", adapter, "--calibration", tiny.calibration, "--train", held, *methods).code == 0
    refused = dubio("evaluate", adapter, "--test", held, "--report", tmp_path / "report")
    assert (refused.code, "of test are also in" in refused.err) == (2, True), refused
    assert not (tmp_path / "report").exists()


def test_rows_that_a_posterior_was_trained_on_cannot_certify_it(trained, tiny):
    for table in (tiny.train, tiny.validation):
        done = dubio("fit", trained("swag_lora"), "--calibration", table, "--methods", f"{METHODS},swag_lora.entropy")
        assert (done.code, "of calibration are also in posterior swag_lora" in done.err) == (2, True), done


def test_a_posterior_of_another_adapter_is_refused(tiny, trained, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter, ignore=shutil.ignore_patterns("dubio"))
    assert dubio("posterior", adapter, "mc_dropout", "--rate", "0.2").code == 0
    for name in ("adapter_model.safetensors", "adapter_config.json", "dubio_training.json", "dubio_rows.safetensors"):
        shutil.copy(trained("ensemble") / name, adapter / name)
    done = dubio("fit", adapter, "--calibration", tiny.calibration, "--methods", f"{METHODS},mc_dropout.entropy")
    assert (done.code, "mc_dropout was made from another adapter" in done.err) == (2, True), done


def test_texts_longer_than_the_positions_are_cut_to_them(tiny, trained):
    record = json.loads((trained("ensemble") / "dubio_training.json").read_text())
    assert record["max_length"] == 32
    host, _ = load_host(str(tiny.base), ["a", "b"], max_length=None)
    assert host.max_length == 64  # of the base's positions


@pytest.mark.parametrize(("arguments", "words"), [
    (("nonsense",), "no posterior named 'nonsense'"), (("ensemble",), "takes a training run of its own"),
    (("tfb",), "needs labelled rows"), (("mc_dropout", "--rate", "1.5"), "lies between 0 and 1"),
    (("tfb", "--rows", "absent.csv"), "absent.csv"), (("mc_dropout", "--samples", "0"), "at least 1"),
    (("mc_dropout", "--rows", "rows.csv"), "made from the adapter alone"),
    (("tfb", "--masks", "token", "--rows", "rows.csv"), "--masks is for mc_dropout"),
    (("mc_dropout",), "never varies"), (("laplace", "--rate", "0.1"), "--rate is for mc_dropout"),
    (("blob",), "takes a training run of its own"), (("laplace_lora",), "needs labelled rows"),
    (("laplace_lora", "--structure", "full"), "--structure of laplace_lora is kron or diag, not 'full'"),
    (("laplace", "--structure", "block"), "is kron or diag or full"), (("laplace", "--draws"), "--draws is for"),
    (("tfb", "--validation", "x.csv"), "are for laplace and"), (("heads", "--evidence"), "are for laplace and"),
    (("laplace", "--evidence", "--validation", "x.csv"), "--evidence, not both"),
    (("laplace_lora", "--rows", "x.csv", "--draws"), "give --validation or --evidence"),
    (("laplace_lora", "--rows", "x.csv", "--evidence", "--validation", "x.csv"), "--evidence, not both"),
])  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(tiny, tmp_path, arguments, words):
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter, ignore=shutil.ignore_patterns("dubio"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_dropout": 0.0}))
    (adapter / "dubio_training.json").unlink()  # which is of the settings that were trained with
    extra = ("--rows", tiny.train) if arguments[0] == "laplace" else ()
    done = dubio("posterior", adapter, *arguments, *extra)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done
    assert words in done.err
    assert not (adapter / "posteriors").exists()


@pytest.mark.parametrize(("options", "words"), [
    (("--posterior", "tfb"), "is made from a trained adapter"), (("--members", "3"), "--members is for"),
    (("--posterior", "ensemble", "--set", "keep=one"), "is not a list of epochs"),
    (("--posterior", "ensemble", "--set", "keep=99"), "epoch 99 comes after the last one"),
    (("--posterior", "blob", "--set", "keep=1"), "setting keep has no effect"),
    (("--posterior", "ensemble", "--members", "1"), "members: 1 is out of range; it must be at least 2"),
    (("--posterior", "nonsense"), "no posterior named"), (("--set", "penalty=1"), "no training setting 'penalty'"),
    (("--posterior", "ensemble", "--set", "penalty=x"), "is no number"),
    (("--posterior", "ensemble", "--set", "scale=1"), "setting scale has no effect on --posterior ensemble"),
    (("--posterior", "swag_lora", "--set", "members=3"), "setting members has no effect"),
    (("--posterior", "swag_lora", "--set", "base_dropout=1"), "setting base_dropout has no effect"),
    (("--posterior", "ensemble", "--set", "targets=nonsense"), "ends with 'nonsense'"),
    (("--posterior", "ensemble", "--set", "top_layers=3"), "has 2 blocks, so top_layers cannot be 3"),
    (("--posterior", "swag_lora_xs", "--set", "rank=33"), "its rank cannot be 33"),
    (("--posterior", "ensemble", "--set", "learning_rate=1e30"), "setting learning_rate: 1e30 is out of range"),
    (("--posterior", "ensemble", "--set", "weight_decay=1e30"), "training diverged in epoch 1"),
    (("--posterior", "ensemble", "--set", "beta=1"), "setting beta has no effect on --posterior ensemble"),
    (("--posterior", "blob", "--set", "prune_above=1"), "setting prune_above has no effect on --posterior blob"),
    (("--posterior", "rank_dropout", "--set", "swag_rate=1"), "setting swag_rate has no effect"),
    (("--posterior", "blob", "--set", "beta=0"), "out of range"), (("--posterior", "laplace_lora"), "is made from"),
    (("--posterior", "blob", "--set", "kl_schedule=up"), "known: blundell, constant, each"),
])  # fmt: skip
def test_bad_training_options_are_one_line(tiny, tmp_path, options, words):
    done = dubio("train", "--train", tiny.train, "--model", tiny.base, "--out", tmp_path / "out", *options)
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert words in done.err
    assert [path.name for path in (tmp_path / "out").glob("*")] in ([], [".posterior-training"])
