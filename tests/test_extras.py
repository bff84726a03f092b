"""Without the model libraries, arrays work, and all else says in one line what to install."""

import subprocess
import sys

import pytest

from dubio.extras import lacking
from test_house import ARRAYS

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "tokenizers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(code):
    command = [sys.executable, "-c", WITHOUT + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_arrays_need_no_model_library():
    done = run(ARRAYS.replace("heavy = {", "heavy = set() and {"))
    assert done.returncode == 0, done.stderr


def test_a_verb_that_needs_a_model_says_what_to_install():
    done = run("import dubio\ntry: dubio.load\nexcept ImportError as error: print(error)")
    assert done.stdout == "dubio.load: this needs torch, which is not installed: pip install 'dubio[models]'\n", done


@pytest.mark.parametrize(("arguments", "code"), [("fit x --calibration y.csv", 2), ("methods", 0), ("fit --help", 0)])
def test_the_command_line(arguments, code):
    done = run(f"sys.argv = ['dubio', *{arguments!r}.split()]\nfrom dubio.cli.main import main\nmain()")
    assert done.returncode == code, done
    if code:
        line = done.stderr.splitlines()
        assert len(line) == 1
        assert line[0].endswith("is not installed: pip install 'dubio[models]'")
    else:
        assert done.stderr == ""


def test_another_library_is_no_business_of_ours():
    assert lacking(ModuleNotFoundError("no", name="nowhere")) is None
    assert lacking(ModuleNotFoundError("no")) is None
    assert "dubio[bench]" in lacking(ModuleNotFoundError("no", name="yaml.nodes"))
