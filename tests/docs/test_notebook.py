"""The notebook of the tutorial: what it is made of, and that it runs from the first cell to the last.

It runs on the demo's own kind of adapter (MiniLM, real tweets), trained on few rows for two epochs: as many as it takes
to promise the tutorial's budget.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from dubio.adapters.plan import TrainingPlan
from dubio.scores.registry import METHODS
from tiny_classifier import dubio

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZES = {"train": 1600, "validation": 200, "calibration": 2000, "test": 400}
NEWS = [("Shares fell for the third day, and analysts expect more of it.", "business")] * 50
PLAN = TrainingPlan(learning_rate=2e-3, epochs=2, max_length=64, dropout=0.0, base_dropout=False, show=False)
PAGE = """# Title

Words.

## Part

```python
print(1)
```

```text
1
```

A text below words is shown as it stands:

```text
2
```

`new.jsonl`:

```text
{"a": 1}
```

```sh
dubio score new.jsonl \\
    --quiet
```

The end.
"""


def test_cells_are_the_words_the_code_and_the_files_of_the_page():
    cells = json.loads(runpy.run_path(str(DOCS / "notebook.py"))["notebook"](PAGE))["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells if cell["id"] != "cell-1"] == [
        ("markdown", "# Title\n\nWords."),
        ("markdown", "## Part"),
        ("code", "print(1)"),
        ("markdown", "A text below words is shown as it stands:"),
        ("markdown", "```text\n2\n```"),
        ("markdown", "`new.jsonl`:"),
        ("code", '%%writefile new.jsonl\n{"a": 1}'),
        ("code", "!dubio score new.jsonl \\\n    --quiet"),
        ("markdown", "The end."),
    ]
    assert [cell["outputs"] for cell in cells if cell.get("outputs")] == [
        [{"name": "stdout", "output_type": "stream", "text": ["1\n"]}]
    ]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat, nbclient = (
        pytest.importorskip(name, reason="make docs installs it") for name in ("nbformat", "nbclient")
    )
    monkeypatch.setattr("dubio.data.bundled.tables.SIZES", SIZES)
    monkeypatch.setattr("dubio.cli.demo.SIZES", SIZES)
    monkeypatch.setattr("dubio.data.bundled.tables._news", lambda: NEWS)
    monkeypatch.setattr("dubio.cli.demo.PLAN", PLAN)
    few = {name: METHODS[name] for name in ("softmax_response", "temperature")}
    monkeypatch.setattr("dubio.workflow.fitting.METHODS", few)
    made = dubio("demo", "--out", tmp_path / "runs" / "demo")
    assert made.code == 0, made
    read = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    nbformat.validate(read)
    (fit,) = (cell for cell in read.cells if cell.source.startswith("!dubio fit"))
    fit.source += " --methods softmax_response,temperature,md"  # all of them would take minutes
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    nbclient.NotebookClient(
        read, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert "No such option" not in str(read.cells)
    assert "Error" not in str([cell.outputs for cell in read.cells if cell.cell_type == "code"])
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in scored] == [1, 2, 3, 4]
    assert all(0 <= row["error_probability"] <= 1 for row in scored)
    assert {row["decision"] for row in scored} <= {"answer", "abstain"}
    assert (tmp_path / "runs" / "tutorial" / "report" / "index.html").exists()
