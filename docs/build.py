"""Writes what is generated: the pages of methods, posteriors, findings, which method and gotchas, notebook, llms.txt.

`pages` computes every page and writes nothing; a test compares it with what is committed, so no page can go stale.
"""

import re
import runpy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from dubio.files import write_text
from dubio.posteriors.registry import POSTERIORS
from dubio.scores.base import MethodConfig, Score
from dubio.scores.registry import METHODS, Method, get_method, sampled_names

DOCS = Path(__file__).resolve().parent
MEASURED, GRIDS, README = DOCS / "measured.py", DOCS / "measured_grids.py", DOCS.parent / "README.md"
PICTURES, SIMULATIONS = DOCS / "pictures.py", DOCS / "measured_simulations.py"
CHOICE, NOTEBOOK, LLMS = DOCS / "measured_choice.py", DOCS / "notebook.py", DOCS / "llms.py"
SCORES = DOCS.parent / "src" / "dubio" / "scores"
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "entries ≥"}


def pages(measured: bool = True) -> dict[str, str]:
    """Path under docs/ -> text of every generated page. measured: those of results, too, which take a minute."""
    modules: dict[str, list[Method]] = {}
    for method in METHODS.values():
        modules.setdefault(module_of(method), []).append(method)
    made = {f"methods/{name}.md": page(name, found) for name, found in modules.items()}
    made |= {"methods.md": index(), "posteriors.md": posteriors()}
    made["gotchas.md"] = runpy.run_path(str(SIMULATIONS))["gotchas"]()
    made["tutorial.ipynb"] = loaded(NOTEBOOK)["notebook"]((DOCS / "tutorial.md").read_text(encoding="utf-8"))
    made["llms.txt"] = loaded(LLMS)["llms"](made)
    if measured:
        grids = loaded(GRIDS)
        made["findings.md"] = loaded(CHOICE)["filled"](loaded(MEASURED)["findings"](grids["grids"]()), grids)
        made["which-method.md"] = loaded(CHOICE)["which_method"](grids)
    return made


@cache
def loaded(path: Path) -> dict[str, Any]:
    """The names of a script beside this one, whose tables are computed once."""
    return runpy.run_path(str(path))


def write() -> None:
    """Writes every page by atomic rename and removes pages of methods that are gone."""
    made = pages()
    for path, text in made.items():
        write_text(DOCS / path, text)
    write_text(README, readme())
    runpy.run_path(str(PICTURES))["draw"](DOCS)
    for path in (DOCS / "methods").glob("*.md"):
        if f"methods/{path.name}" not in made:
            path.unlink()


def readme() -> str:
    """The README with its table of what was measured."""
    gains = loaded(GRIDS)["readme"]()
    text = README.read_text(encoding="utf-8")
    assert "<!-- measured -->" in text, "the README has lost the place of its table"
    return re.sub(r"(?<=<!-- measured -->\n\n).*?(?=\n\n<!-- end -->)", lambda _: gains, text, flags=re.DOTALL)


def module_of(method: Method) -> str:
    """The name of the method's file, in one of the rooms of src/dubio/scores."""
    return method.target.partition(":")[0].rpartition(".")[2]


def source_of(module: str) -> Path | None:
    """The file of that name in src/dubio/scores or one of its rooms."""
    return next(SCORES.rglob(f"{module}.py"), None)


def index() -> str:
    """The table of all methods."""
    rows = [
        (f"[`{m.name}`](methods/{module_of(m)}.md)", m.title, ", ".join(m.needs), m.cost, m.paper)
        for m in METHODS.values()
    ]
    return "\n".join([
        f"# Methods: the {len(rows)} registered scores, what each needs, what it costs, which paper",
        "",
        generated("registry.py"),
        "",
        "Each looks at one forward pass and gives one number a row: higher = more likely wrong. `dubio methods` prints "
        "this",
        "table. A name here is a name everywhere: in `dubio fit ADAPTER --methods softmax_response,md,probe ...`, in "
        "the report,",
        "and in `dubio.get_method(\"knn\").build(k=10)`, which takes the options of the method's page.",
        "",
        "Needs: logits and features of the rows to score; `train`, the adapter's own training rows, and `calibration`, "
        "held-out rows,",
        "to fit on, both with labels; `head`, the classification head as a torch module. A method whose needs are not "
        "met is left out.",
        "",
        *table(("name", "method", "needs", "cost", "paper"), rows),
        "",
    ])  # fmt: skip


def posteriors() -> str:
    """The table of all posteriors, the measures of their samples, and each one's equations."""
    rows = [
        (f"`{e.name}`", e.title, f"`dubio train --posterior {e.name}`" if e.trained
         else f"`dubio posterior ADAPTER {e.name}`", e.cost, e.paper) for e in POSTERIORS.values()
    ]  # fmt: skip
    measures = [(f"`{m.name}`", m.title.partition(": ")[2], m.paper) for m in map(get_method, sampled_names("NAME"))]
    parts = [
        f"# Posteriors: the {len(rows)} ways to make many adapters out of one base, their costs, papers and equations",
        "<!-- Written by docs/build.py from src/dubio/posteriors: edit the files there and run `make docs`. -->",
        "Each yields S adapters; one engine runs them over the frozen base; their S predictions are judged as scores "
        "of the\nadapter's own predictions and, by their mean, as a system. Which one: "
        "[how-to](howto/which-posterior.md).",
        "\n".join(table(("name", "posterior", "made by", "cost", "paper"), rows)),
        "## What is read from the samples",
        "Names for `--methods`, NAME being the posterior's. Equations: `src/dubio/measures.py`.",
        "\n".join(table(("name", "measure", "paper"), measures)),
    ]
    homes: dict[str, list[str]] = {}
    for entry in POSTERIORS.values():
        homes.setdefault(entry.target.partition(":")[0], []).append(entry.name)
    for home, names in homes.items():
        text = import_module(f"dubio.posteriors.methods.{home}").__doc__ or ""
        parts += [f"## {', '.join(f'`{name}`' for name in names)}", cleandoc(text)]
    return "\n\n".join(parts) + "\n"


def page(module: str, methods: Sequence[Method]) -> str:
    """One page: the module's docstring, the registered names, then options and learned arrays of each class."""
    home = import_module(f"dubio.scores.{methods[0].target.partition(':')[0]}")
    classes: dict[str, type[Score]] = {m.target: getattr(home, m.target.partition(":")[2]) for m in methods}
    names = [(f"`{m.name}`", m.title, options_of(m), ", ".join(m.needs), m.cost, m.paper) for m in methods]
    parts = [
        f"# {cleandoc(home.__doc__ or '').partition(':')[0]}",
        generated(f"{home.__name__.removeprefix('dubio.scores.').replace('.', '/')}.py"),
        linked(cleandoc(home.__doc__ or ""), module),
        "## Registered names",
        "\n".join(table(("name", "method", "options", "needs", "cost", "paper"), names)),
    ]
    for cls in classes.values():
        own = f" of {cls.__name__}" if len(classes) > 1 else ""
        parts += [f"## Options{own}", options(cls.Config), f"## What is learned{own}", learned(cls)]
        parts += [
            f"## Procedure shared with other methods\n\n{cleandoc(import_module(base.__module__).__doc__ or '')}"
            for base in cls.__mro__[1:]
            if issubclass(base, Score) and base is not Score
        ]
    return "\n\n".join(parts) + "\n"


def generated(source: str) -> str:
    """The remark that keeps people from editing a generated page."""
    return f"<!-- Written by docs/build.py from src/dubio/scores/{source}: edit that file and run `make docs`. -->"


def linked(text: str, module: str) -> str:
    """Names of other files of the room, in backticks, become links: to their page, or to the source without one."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        source = source_of(name)
        if name == module or source is None:
            return found[0]
        documented = any(module_of(method) == name for method in METHODS.values())
        return f"[`{name}`]({f'{name}.md' if documented else f'../../src/dubio/scores/{source.relative_to(SCORES)}'})"

    return re.sub(r"`(\w+)`", link, text)


def options(config: type[MethodConfig]) -> str:
    """The table of a config's options, and what its docstring says beyond them."""
    if not config.model_fields:
        return "None."
    meanings, notes = meanings_of(config)
    rows = [
        (f"`{name}`", type_of(field.annotation), f"`{field.default!r}`", bounds(field.metadata), meanings.get(name, ""))
        for name, field in config.model_fields.items()
    ]
    lines = table(("option", "type", "default", "bounds", "meaning"), rows)
    return "\n".join([*lines, "", *notes] if notes else lines)


def meanings_of(config: type[MethodConfig]) -> tuple[dict[str, str], list[str]]:
    """Option -> meaning, from the `name, other: meaning.` entries of the docstrings of a config and its bases.

    Sentences behind an entry's first one are notes on all options. An entry that only says `see ...` is passed over.
    """
    names = "|".join(config.model_fields)
    entry = re.compile(rf"(?:^|(?<=[.;] ))((?:{names})(?:, (?:{names}))*): ")
    meanings: dict[str, str] = {}
    notes: list[str] = []
    for base in config.__mro__:
        if not issubclass(base, MethodConfig) or base is MethodConfig:
            continue
        _, *found = entry.split(" ".join((base.__doc__ or "").split()))
        for listed, text in zip(found[::2], found[1::2], strict=True):
            meaning, _, note = text.strip().partition(". ")
            notes += [note] if note else []
            for name in listed.split(", "):
                if not meaning.startswith("see "):
                    meanings.setdefault(name, meaning.rstrip(".;"))
    return meanings, notes


def type_of(annotation: Any) -> str:
    """An option's type in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, UnionType):
        return " or ".join(type_of(part) for part in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"tuple of {type_of(get_args(annotation)[0])}"
    return "None" if annotation is type(None) else str(annotation.__name__)


def bounds(metadata: Sequence[Any]) -> str:
    """`> 0, ≤ 1`, from pydantic's constraints."""
    return ", ".join(
        f"{sign} {getattr(limit, key)}" for limit in metadata for key, sign in BOUNDS.items() if hasattr(limit, key)
    )


def learned(cls: type[Score]) -> str:
    """What the class says about its score and arrays, and the arrays by name."""
    lines = [linked(cleandoc(cls.__doc__ or ""), cls.__module__.rpartition(".")[2])]
    if cls.learned:
        lines += ["", f"Stored arrays: {', '.join(f'`{name}`' for name in cls.learned)}."]
    if "state" in vars(cls):
        lines += ["", f"Stored: {cleandoc(cls.state.__doc__ or '')}"]
    return "\n".join(lines)


def options_of(method: Method) -> str:
    """The options that a registered name sets."""
    values: Mapping[str, Any] = method.options
    return ", ".join(f"`{name}={value!r}`" for name, value in values.items()) or "defaults"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *cells)]


if __name__ == "__main__":
    write()
