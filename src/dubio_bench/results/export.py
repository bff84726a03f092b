"""A table as Markdown, LaTeX, HTML or Parquet, and the critical-difference picture."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from pyarrow import parquet

from dubio.errors import DubioError
from dubio.files import atomic_path, write_text
from dubio_bench.results.statistics import Comparison
from dubio_bench.results.tables import Table

# What a table may be called, so that a later save can take away what it does not write itself.
NAMES = ("methods", "systems", "published_systems", "published_gains")
_NUMBERS = re.compile(r"(?:[-+−–\d.,/ ()±%]|to|nan)*")
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$", "’": "'", "−": "-"}


def markdown(table: Table) -> str:
    """With the title, and the note below."""
    return f"### {table.title}\n\n{markdown_rows(table.header, table.rows)}\n\n{table.note}\n"


def markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The bare table, columns of numbers to the right; none narrower than the rule that Markdown asks for."""
    cells = [list(header), *map(list, rows)]
    wide = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)) for row in cells]
    rule = " | ".join("-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(wide))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def latex(table: Table) -> str:
    r"""A `tabular` between `\toprule` and `\bottomrule` of booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\"

    rows = [r"\toprule", line(table.header), r"\midrule", *(line(row) for row in table.rows), r"\bottomrule"]
    columns = "l" + "r" * (len(table.header) - 1)
    body = "\n".join((f"\\begin{{tabular}}{{{columns}}}", *rows, r"\end{tabular}"))
    return f"% {table.title}\n% {table.note}\n{body}\n"


def page(title: str, about: str, tables: Sequence[Table], pictures: Sequence[tuple[str, str]]) -> str:
    """One HTML page that needs nothing else. pictures: (caption, SVG)."""
    environment = Environment(
        loader=PackageLoader("dubio_bench.results", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown = [(table, words_in(table)) for table in tables]
    return environment.get_template("grid.html.j2").render(title=title, about=about, tables=shown, pictures=pictures)


def words_in(table: Table) -> list[bool]:
    """Which columns hold words, to be read from the left; the first always does."""
    columns = zip(*table.rows, strict=True)
    return [i == 0 or any(cell and not _NUMBERS.fullmatch(cell) for cell in column) for i, column in enumerate(columns)]


def save(folder: Path, title: str, about: str, tables: Sequence[Table], pictures: Sequence[tuple[str, str]]) -> None:
    """`tables.md`, `tables.tex`, a Parquet file a table, `index.html`, each by atomic rename.

    Tables of an earlier save that are not among these are removed. Raises DubioError on what cannot be written.
    """
    write_text(folder / "tables.md", "\n".join(markdown(table) for table in tables))
    write_text(folder / "tables.tex", "\n".join(latex(table) for table in tables))
    for table in tables:
        try:
            with atomic_path(folder / f"{table.name}.parquet") as temporary:
                parquet.write_table(pa.Table.from_pylist([dict(record) for record in table.records]), temporary)
        except pa.ArrowException as error:
            raise DubioError(f"cannot write {folder / table.name}.parquet: {error}") from error
    for name in {*NAMES} - {table.name for table in tables}:
        (folder / f"{name}.parquet").unlink(missing_ok=True)
    write_text(folder / "index.html", page(title, about, tables, pictures))


def critical_difference(found: Comparison, names: Sequence[str]) -> str | None:
    """Mean ranks on a line, methods within the critical difference joined, as SVG; None where there is none.

    names: of `found.methods`, in words, in their order. Source: Demsar 2006.
    """
    width = found.critical_difference()
    if width is None:
        return None
    shown = dict(zip(found.methods, names, strict=True))
    order = sorted(found.methods, key=found.ranks.__getitem__)
    half, last = -(-len(order) // 2), len(order)
    figure = Figure(figsize=(8.5, 1.3 + 0.24 * half + 0.12 * len(found.cliques())))
    axes = figure.subplots()
    axes.set_xlim(0, last + 1)
    axes.set_ylim(-half - 1.2 - 0.5 * len(found.cliques()), 2.2)
    axes.axis("off")
    axes.hlines(0, 1, last, color="black", linewidth=1)
    for place in range(1, last + 1):
        axes.vlines(place, 0, 0.15, color="black", linewidth=1)
        axes.text(place, 0.25, str(place), ha="center", va="bottom", fontsize=7)
    axes.hlines(1.5, 1, 1 + width, color="black", linewidth=1.5)
    axes.text(1 + width / 2, 1.6, f"critical difference {width:.1f}", ha="center", va="bottom", fontsize=7)
    top = -0.5 * (len(found.cliques()) + 1)
    for i, clique in enumerate(found.cliques()):
        left, right = found.ranks[clique[0]] - 0.05, found.ranks[clique[-1]] + 0.05
        axes.hlines(-0.4 * (i + 1), left, right, color="#888888", linewidth=2.5)
    for i, method in enumerate(order):
        left = i < half
        height = top - (i if left else last - 1 - i)
        rank, side = found.ranks[method], 0.9 if left else last + 0.1
        axes.plot([rank, rank, side], [0, height, height], color="black", linewidth=0.6)
        axes.text(
            side, height, f"{shown[method]} ({rank:.1f})", ha="right" if left else "left", va="center", fontsize=7,
            parse_math=False,
        )  # fmt: skip
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
