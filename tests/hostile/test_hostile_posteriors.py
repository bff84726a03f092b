"""Posteriors that no run has written, under right hashes; and a user without a home."""

from pathlib import Path

import pytest
import torch

from dubio.cli.common import Session
from dubio.errors import DubioError
from dubio.posteriors.engine.stack import AdapterStack, Dense, LowRank
from dubio.posteriors.engine.stack_check import check_stack


class Base(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.norm = torch.nn.Linear(6, 4), torch.nn.LayerNorm(6)


HEAD = torch.nn.Sequential(torch.nn.Linear(4, 3))
RIGHT = {
    "layers": {"query": LowRank(torch.ones(2, 5, 6), torch.ones(2, 4, 5), 1.0)},
    "head": {"0.weight": torch.ones(2, 3, 4), "0.bias": torch.ones(2, 3)},
}
WRONG = {
    "another width": {"layers": {"query": LowRank(torch.ones(2, 5, 7), torch.ones(2, 4, 5), 1.0)}},
    "another rank": {"layers": {"query": LowRank(torch.ones(2, 5, 6), torch.ones(2, 4, 9), 1.0)}},
    "flat": {"layers": {"query": LowRank(torch.ones(2, 6), torch.ones(2, 4), 1.0)}},
    "no numbers with a point": {"layers": {"query": LowRank(torch.ones(2, 5, 6).long(), torch.ones(2, 4, 5), 1.0)}},
    "no such layer": {"layers": {"nowhere": Dense(torch.ones(2, 4, 6), None)}},
    "not linear": {"layers": {"norm": Dense(torch.ones(2, 6, 6), None)}},
    "a whole layer of another shape": {"layers": {"query": Dense(torch.ones(2, 6, 4), None)}},
    "a bias of another shape": {"layers": {"query": Dense(torch.ones(2, 4, 6), torch.ones(2, 5))}},
    "other numbers of samples": {"head": {"0.weight": torch.ones(3, 3, 4)}},
    "a head of more classes": {"head": {"0.weight": torch.ones(2, 4, 4)}},
    "no such part of the head": {"head": {"1.weight": torch.ones(2, 3, 4)}},
    "scalars": {"layers": {}, "head": {"0.weight": torch.tensor(1.0)}},
}


def test_the_right_stack_passes():
    check_stack(AdapterStack(**RIGHT), Base(), HEAD, "blob")


@pytest.mark.parametrize("name", WRONG)
def test_stacks_that_do_not_fit_are_one_line(name):
    with pytest.raises(DubioError, match=r"posterior blob does not fit the base: .*; make it again") as caught:
        check_stack(AdapterStack(**{**RIGHT, **WRONG[name]}), Base(), HEAD, "blob")
    assert "\n" not in str(caught.value)


def test_a_user_without_a_home(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("DUBIO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DubioError, match="--cache or DUBIO_CACHE"):
        _ = Session("x").cache_folder
    assert Session("x", cache=tmp_path).cache_folder == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # enough without a home
    assert Session("x").cache_folder == tmp_path / "dubio" / "representations"
