import pytest

from forks import Forks
from tiny_classifier import cached, environment, tiny

__all__ = ["cached", "tiny"]


@pytest.fixture(scope="session")
def forks():
    """Real processes for commands, one at a time."""
    with Forks(environment()) as server:
        yield server
