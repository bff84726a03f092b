"""`kill -9` while a posterior is trained or made: the next run gives the same bits, and no reader sees half of one."""

import json
import shutil

import pytest
from test_kill import PAUSE, Reader, moments

from dubio.posteriors.registry import POSTERIORS
from dubio.posteriors.store import find_posteriors, load_posterior
from invariants.posterior_cases import command, copy_adapter

EVERY = list(POSTERIORS)
KILLS = [*((name, 2) for name in ("ensemble", "swag_lora_xs", "tfb", "blob")),
         *(pytest.param(name, 10, marks=pytest.mark.slow) for name in EVERY)]  # fmt: skip


def contents(folder, name):
    """Every file's bytes under the adapter, without what a run has cost."""
    found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    facts = json.loads(found.pop("posterior.json"))
    facts["facts"].pop("seconds")
    found["facts"] = {key: value for key, value in facts.items() if key != "digest"}
    record = json.loads(found.pop("dubio_training.json"))
    for entry in record.get("history", ()):
        entry.pop("seconds")
    return {**found, "record": record}


@pytest.mark.parametrize(("name", "kills"), KILLS)
def test_killed_posteriors(cached, forks, tmp_path, name, kills):
    whole = tmp_path / "whole"
    copy_adapter(cached, name, whole)
    code, seconds = forks.run(command(cached, name, whole), tmp_path / "log", pause=PAUSE)
    assert code == 0, (tmp_path / "log").read_text()
    expected, killed = contents(whole, name), 0
    for kill, moment in enumerate(moments(kills, seconds)):
        folder, log = tmp_path / str(kill), tmp_path / f"log{kill}"
        copy_adapter(cached, name, folder)

        def look(folder=folder):
            for found in find_posteriors(folder):
                load_posterior(folder, found)

        with Reader(look):
            code, _ = forks.run(command(cached, name, folder), log, kill_after=moment or seconds / 3, pause=PAUSE)
            killed += code == -9
            if code == 0:  # the machine was busier when the time was taken
                shutil.rmtree(folder)
                copy_adapter(cached, name, folder)
            code, _ = forks.run(command(cached, name, folder), log)
        assert code == 0, log.read_text()
        assert contents(folder, name) == expected
        assert [path for path in folder.rglob(".*") if not path.name.startswith(".gitattributes")] == []
    assert killed > 0
