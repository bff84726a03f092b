import bad_files  # noqa: F401  (these register their cases)
import bad_options  # noqa: F401
import bad_tables  # noqa: F401
import pytest
from bad_input import CASES, Desk

from dubio.models import extraction
from tiny_classifier import dubio, snapshot

# Of those that come far: what torch, transformers and peft have to say must not reach the user.
TALKATIVE = ("truncated_base", "base_of_another_width", "missing_adapter_key", "another_schema", "no_errors")


def is_one_line(text, case):
    return text.startswith("dubio: ") and text.count("\n") == 1 and text.endswith("\n") and case.message in text


@pytest.mark.parametrize("name", CASES)
def test_one_line_exit_code_2_nothing_written(cached, tmp_path, monkeypatch, name):
    """Only what needs predictions to be found may cost a forward pass over the tables, and fills the cache.

    The cache is no result: its shards are named by their content, whole, and right whatever became of the command.
    """
    case = CASES[name]
    arguments = case.build(Desk(cached, tmp_path))
    if not case.late:
        monkeypatch.setattr(extraction, "forward_rows", None)
    monkeypatch.chdir(tmp_path)
    watched = [path for path in cached.root.iterdir() if path.is_dir() and not (case.late and path.name == "cache")]
    before = snapshot(tmp_path, *watched)
    done = dubio(*arguments)
    assert done.code == 2, done
    assert is_one_line(done.err, case), done.err
    assert done.out == ""
    assert snapshot(tmp_path, *watched) == before


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in TALKATIVE else pytest.mark.slow) for name in CASES]
)
def test_one_line_from_a_process(cached, forks, tmp_path, name):
    case, log = CASES[name], cached.root / "log"
    code, _ = forks.run(CASES[name].build(Desk(cached, tmp_path)), log)
    assert (code, is_one_line(log.read_text(), case)) == (2, True), log.read_text()


def test_importing_the_commands_says_nothing(forks):
    assert forks.said() == ""
