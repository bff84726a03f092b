"""The tutorial as a Jupyter notebook: the same words, its Python and its commands as cells, its outputs as they stand.

In: the Markdown of docs/tutorial.md. Out: nbformat 4.5 JSON, the same bytes for the same text.

* A block of `python` is a code cell; one of `sh` is a code cell whose commands begin with `!`.
* A block of `text` right below a code cell is its output.
* A block of `text` below a line that only names a file, such as "`new.jsonl`:", is a cell that writes this file.
"""

import json
import re
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:^|\n)`(\S+)`:\s*$")
HOME = """# Paths begin at the folder that holds runs/demo, which `make demo` makes.
import os

if not os.path.isdir("runs/demo"):
    os.chdir("..")
"""


def notebook(markdown: str) -> str:
    """The notebook's text."""
    title, _, rest = markdown.partition("\n## ")
    cells: list[dict[str, Any]] = [_cell("markdown", title), _cell("code", HOME)]
    rest, at, adjacent = f"## {rest}", 0, False
    for block in BLOCK.finditer(rest):
        prose = rest[at : block.start()].strip("\n")
        adjacent, at = adjacent and not prose, block.end()
        kind, body = block[1], block[2]
        named = FILE.search(prose)
        if prose:
            cells.append(_cell("markdown", prose))
        if kind == "text" and adjacent:
            cells[-1]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": body.splitlines(keepends=True)}]
        elif kind == "text" and named:
            cells.append(_cell("code", f"%%writefile {named[1]}\n{body}"))
        elif kind == "text":
            cells.append(_cell("markdown", block[0]))
        else:
            cells.append(_cell("code", body if kind == "python" else re.sub(r"^(?=dubio )", "!", body, flags=re.M)))
        adjacent = kind != "text"
    cells.append(_cell("markdown", rest[at:].strip("\n")))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
            "nbformat": 4, "nbformat_minor": 5}  # fmt: skip
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _cell(kind: str, text: str) -> dict[str, Any]:
    own = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text.strip("\n").splitlines(keepends=True), **own}
