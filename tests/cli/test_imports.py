"""What costs seconds to import is imported by the commands that need it, and by no other."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "sklearn", "scipy", "pyarrow", "matplotlib", "datasets", "accelerate")
SNIPPETS = {
    "the package": ("import dubio; dubio.__dir__()", (*HEAVY, "numpy", "pydantic", "typer", "rich")),
    "help": ("run('--help')", (*HEAVY, "numpy")),
    "help of a command": ("run('fit', '--help')", (*HEAVY, "numpy")),
    "bad usage": ("run('fit')", (*HEAVY, "numpy")),
    "methods": ("run('methods')", HEAVY),
    "split": ("run('split', 'none.csv')", ("torch", "transformers", "peft", "matplotlib", "datasets")),
    "check": ("run('check', 'none.csv')", ("torch", "transformers", "peft", "matplotlib", "datasets")),
    "errors": ("from dubio import DubioError", HEAVY),
    "the registry": ("from dubio import METHODS; assert len(METHODS) > 15", HEAVY),
}
RUN = """
import json, sys
def run(*arguments):
    from dubio.cli.main import main
    sys.argv = ["dubio", *arguments]
    try:
        main()
    except SystemExit:
        pass
"""


@pytest.mark.parametrize("name", SNIPPETS)
def test_light_ways_stay_light(name):
    code, heavy = SNIPPETS[name]
    script = f"{RUN}\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "dubio" in loaded
    assert loaded.isdisjoint(heavy), loaded.intersection(heavy)


def test_every_public_name_is_at_home_where_it_says():
    import dubio

    assert sorted(dubio.__all__) == sorted(name for name in dubio.__all__ if getattr(dubio, name) is not None)
    assert set(dubio.__all__) <= set(dir(dubio))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        dubio.nope  # noqa: B018
