"""The rules of the house read from the source: direction of imports, sizes, docstrings, no code run."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FILES = sorted(SOURCE.rglob("*.py"))
ARRAYS_ONLY = (
    "containers", "fitted", "log_space", "arrays", "errors", "heads", "scores", "measures", "metrics", "decisions",
)  # fmt: skip
NOT_FOR_ARRAYS = (
    "transformers", "peft", "tokenizers", "datasets", "accelerate", "typer", "rich", "matplotlib", "jinja2", "pyarrow",
    *(f"dubio.{room}" for room in ("models", "adapters", "posteriors", "data", "artifacts", "workflow", "report",
                                   "serve", "cli")),
    "dubio_bench",
)  # fmt: skip
RIM, TOP = ("data", "models", "adapters", "posteriors"), ("workflow", "report", "serve", "cli")
NOT_FOR_RIM = (*(f"dubio.{room}" for room in TOP), "dubio_bench")
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "lightning", "hydra", "torchcp"}


def name_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path):
    """Every module imported anywhere in the file, inside functions too; what is imported from one may be one."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reached_from(path):
    """Everything that importing the file brings in, through dubio's own modules."""
    modules = {name_of(file): file for file in FILES}
    seen, todo, found = set(), [path], set()
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        found |= imports_of(file)
        todo += [modules[name] for name in imports_of(file) if name in modules and name != "dubio"]
    return found


def offences(names, forbidden):
    return sorted(n for n in names if any(n == bad or n.startswith(bad + ".") for bad in forbidden))


def in_rooms(rooms):
    chosen = [f for f in FILES if any(f"{name_of(f)}.".startswith(f"dubio.{room}.") for room in rooms)]
    return pytest.mark.parametrize("path", chosen, ids=name_of)


@in_rooms(ARRAYS_ONLY)
def test_array_rooms_import_no_models_and_nothing_above(path):
    assert not offences(reached_from(path), NOT_FOR_ARRAYS)


@in_rooms(RIM)
def test_rim_rooms_do_not_import_the_top(path):
    assert not offences(imports_of(path), NOT_FOR_RIM)


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path).split(".")[0] == "dubio"], ids=name_of)
def test_only_the_command_line_knows_the_bench(path):
    assert path == SOURCE / "dubio/cli/main.py" or not offences(imports_of(path), ("dubio_bench",))


def graph():
    """Module -> the modules of ours that it imports, inside functions too."""
    modules = {name_of(file): file for file in FILES}
    arrows = {}
    for name, file in modules.items():
        found = arrows.setdefault(name, set())
        for node in ast.walk(tree_of(file)):
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                whole = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                found.add(whole if whole in modules else getattr(node, "module", whole))
    return {name: (found & modules.keys()) - {name} for name, found in arrows.items()}


def circles(arrows):
    """Groups of nodes that reach one another."""
    import networkx

    drawn = networkx.DiGraph([(a, b) for a, found in arrows.items() for b in found])
    return [sorted(group) for group in networkx.strongly_connected_components(drawn) if len(group) > 1]


def test_no_two_files_import_one_another():
    """Not even inside a function, which would hide it."""
    assert circles(graph()) == []


def test_no_two_rooms_import_one_another():
    rooms = {}
    for name, found in graph().items():
        rooms.setdefault(room_of(name), set()).update(room_of(other) for other in found)
    assert circles({room: others - {room} for room, others in rooms.items() if room != "dubio"}) == []


def room_of(name):
    """`dubio.scores` of `dubio.scores.density.md`; a file at the top is a room of its own."""
    return ".".join(name.split(".")[:2])


def test_the_direction_is_really_looked_at():
    modules = {name_of(file): file for file in FILES}
    assert "dubio.scores.base" in reached_from(modules["dubio.decisions.recalibration"])
    assert offences(reached_from(modules["dubio.models.loading"]), NOT_FOR_ARRAYS)
    assert offences({"peft.utils", "perfect"}, ("peft",)) == ["peft.utils"]


def functions_of(path):
    return [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short():
    lengths = {name_of(path): lines_of(path) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
    assert median(n for n in lengths.values() if n) <= 150
    others = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert {str(path): lines_of(path) for path in others if lines_of(path) > 400} == {}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path):
    long, wide = [], []
    for f in functions_of(path):
        if f.end_lineno - min(f.lineno, *(d.lineno for d in f.decorator_list), f.lineno) + 1 > 60:
            long.append(f.name)
        arguments = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, f.args.vararg, f.args.kwarg]
        count = sum(a is not None and a.arg not in ("self", "cls") for a in arguments)
        if count > 8 and not is_command(path, f):
            wide.append(f.name)
    assert (long, wide) == ([], [])


def is_command(path, function):
    """A typer command: each option of the command line is a parameter."""
    home = f"{path.parent.name}/{path.name}"
    return home in ("cli/main.py", "cli/preparing.py", "dubio_bench/options.py") and bool(function.decorator_list)


def public(body):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


@pytest.mark.parametrize("path", [p for p in FILES if lines_of(p)], ids=name_of)
def test_everything_public_is_documented_and_annotated(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module needs a docstring"
    for node in public(tree.body):
        assert ast.get_docstring(node), f"{node.name} needs a docstring"
        if not isinstance(node, ast.ClassDef):
            assert node.returns is not None, f"{node.name} needs the type of what it returns"
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{node.name}: {bare} need types"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_data_can_run_code(path):
    assert not offences(imports_of(path), RUNS_CODE)
    text = path.read_text(encoding="utf-8")
    assert "trust_remote_code" not in re.sub(r"trust_remote_code\W{1,3}False", "", text), "only ever refused"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("torch", "load"), "torch.load unpickles; use safetensors"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), "no code from data"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def test_importing_dubio_and_its_registry_costs_no_torch():
    code = (
        "import sys, dubio, dubio.errors, dubio.scores.registry; dir(dubio); dubio.METHODS; "
        "heavy = {'torch', 'transformers', 'peft', 'sklearn', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


ARRAYS = """
import sys, numpy as np, dubio
g = np.random.default_rng(0)
def rows(n):
    y = g.integers(0, 3, n)
    return dubio.Representations.of(g.normal(size=(n, 6)), g.normal(size=(n, 3)) + 2 * np.eye(3)[y], y)
fast = ["softmax_response", "entropy", "margin", "energy", "temperature", "md", "rmd", "ddu", "probe", "refitted_both"]
fitted = dubio.fit(rows(300), rows(400), methods=fast)
dubio.score(fitted, rows(50)), dubio.evaluate(fitted, rows(300)), dubio.promise(fitted, 0.4)
assert not fitted.left_out, fitted.left_out
heavy = {"torch", "transformers", "peft", "tokenizers", "accelerate", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def test_methods_on_arrays_need_neither_torch_nor_models():
    subprocess.run([sys.executable, "-c", ARRAYS], check=True, timeout=300)


def test_no_two_test_files_share_a_name():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
