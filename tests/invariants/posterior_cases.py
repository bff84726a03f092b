"""Every registered posterior on the tiny classifier, made by the command as a user makes it.

What is trained gets an adapter of its own; what is made onto an adapter is made beside a copy of the fitted one.
"""

import shutil
from functools import cache

from dubio.models.extraction import Extraction
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from dubio.posteriors.registry import POSTERIORS
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from tiny_classifier import dubio, read_rows

QUIET = Extraction(show=False)
SMALL = ("--set", "epochs=3", "--set", "learning_rate=0.03", "--set", "batch_size=32", "--set", "max_length=32")
OWN = {
    "ensemble": ("--members", "3"), "kfold": ("--members", "3"),
    "swag_lora": ("--set", "swag_epochs=3", "--set", "collections=2"),
    "swag_lora_xs": ("--set", "swag_epochs=3", "--set", "collections=2"),
    "mc_dropout": ("--rate", "0.2"),
}  # fmt: skip


def command(tiny, name, folder):
    """The arguments that make the posterior in `folder`, the adapter's."""
    if POSTERIORS[name].trained:
        common = ("--train", tiny.train, "--validation", tiny.validation, "--model", tiny.base, "--out", folder)
        return ["train", "--posterior", name, *common, *OWN.get(name, ()), *SMALL]
    rows = () if name == "mc_dropout" else ("--rows", tiny.train)
    if name == "laplace_lora":
        rows = (*rows, "--validation", tiny.validation)
    return ["posterior", folder, name, *rows, *OWN.get(name, ())]


def copy_adapter(tiny, name, folder):
    """What has to be there before `command` runs."""
    if not POSTERIORS[name].trained:
        shutil.copytree(tiny.adapter, folder, ignore=shutil.ignore_patterns("dubio", "posteriors"))


@cache
def adapter_with(tiny, name):
    """The folder of an adapter with the posterior beside it; shared, so copy it before changing it."""
    folder = tiny.root / f"with-{name}"
    copy_adapter(tiny, name, folder)
    done = dubio(*command(tiny, name, folder))
    assert done.code == 0, done
    return folder


@cache
def sampler_of(tiny, name):
    """(loaded adapter, sampler of its posterior)."""
    folder = adapter_with(tiny, name)
    model = load(folder)
    return model, Sampler(host_under(model), load_posterior(folder, name))


@cache
def rows_of(tiny):
    """(texts, labels) of the test table."""
    rows = read_rows(tiny.test)
    return tuple(row["text"] for row in rows), tuple(row["label"] for row in rows)


@cache
def samples_of(tiny, name):
    """`[S, N, C]` log-probabilities of the test rows."""
    return sample(sampler_of(tiny, name)[1], rows_of(tiny)[0], None, QUIET)
