"""Runtime type checks over the whole package, and the data root for tests that need real data."""

import os
from pathlib import Path

import pytest
from beartype import BeartypeConf
from beartype.claw import beartype_package

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for package in ("dubio", "dubio_bench"):
    beartype_package(package, conf=BeartypeConf(is_pep484_tower=True))  # as pyright reads it: an int is a float


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = os.environ.get("DUBIO_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real data: set DUBIO_DATA to the data root")
    return Path(root)
