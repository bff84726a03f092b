"""The `dubio` command: one file a subcommand, each imported only when it runs, so that help costs no torch.

Bad input ends with one line on standard error and exit code 2; anything else that goes wrong is a bug and shows itself.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dubio.cli.options import Label, Pair, Text
from dubio.cli.output import lasting_output
from dubio.cli.preparing import tables
from dubio.cli.stopping import EXIT_CODE, how_to_go_on
from dubio.errors import DubioError
from dubio.extras import lacking
from dubio.showing import plain_utf8, tell

UsageError: Any = typer.BadParameter.__mro__[1]  # click's, which typer may bring along under a name of its own

app = typer.Typer(
    name="dubio",
    help="Tells which predictions of a LoRA-adapted language model can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Adapter = Annotated[str, typer.Argument(help="Adapter folder or hub id, or a fine-tuned classifier.")]
Base = Annotated[str | None, typer.Option(help="Base model (path, hub id, or .gguf file), if not the adapter's own.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    str | None,
    typer.Option(help="Forward pass in float32 or bfloat16 (default: as fitted, else float32); scores are float32."),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Tokens a row (default: as fitted, as trained, or the most it can).")
]
Cache = Annotated[Path | None, typer.Option(help="Where representations are kept (default: the user's cache folder).")]
Artifact = Annotated[
    Path | None,
    typer.Option("--artifact", help="Folder that holds what was fitted, in dubio/ (default: the adapter's folder)."),
]
Letters = Annotated[
    str | None,
    typer.Option(help="Answer letters of a causal LM's adapter for multiple choice: ABCD, or True,False (as trained)."),
]
Prompt = Annotated[
    Path | None, typer.Option(help="JSON of its prompt: letters, instruction, context, choice, cue, gap, rest.")
]
Groups = Annotated[
    str,
    typer.Option(
        help="Which calibration rows stay in one fold: repeats (near repeats, found by text), none, or a column's name."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(help="Names of the classes in the model's order, a,b,c or a file (default: the adapter's own)."),
]
DropOverlap = Annotated[
    bool, typer.Option("--drop-overlap", help="Leave out rows that are in another of the tables too, and say how many.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress lines.")]


@app.command()
def train(
    train: Annotated[str, typer.Option(help="Training table (CSV, TSV, JSONL, Parquet, or hub:NAME:SPLIT).")],
    model: Annotated[str, typer.Option(help="Base model: path, hub id, or .gguf file.")],
    out: Annotated[Path, typer.Option(help="Folder of the new adapter.")],
    validation: Annotated[str | None, typer.Option(help="Table that picks the best epoch (default: a tenth).")] = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    posterior: Annotated[
        str | None,
        typer.Option(help="Train a posterior over adapters: ensemble, swag_lora, swag_lora_xs, blob or rank_dropout."),
    ] = None,
    members: Annotated[int | None, typer.Option(help="Members of an ensemble (default: 5).")] = None,
    letters: Letters = None,
    prompt: Prompt = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Which rows are never split between train and the held-out tenth: a column's name, repeats (near "
            "repeats), or none (default: rows of the same text)."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: rank, learning_rate, epochs, batch_size, seed, ...")
    ] = None,
    drop_overlap: DropOverlap = False,
) -> None:
    """Train a LoRA classifier (optional: most users bring their own adapter), or a posterior over adapters.

    On a table of questions, choices and answers, the adapter is one of a causal LM that answers by letters.
    """
    from dubio.cli.train import TrainTables, run

    tables = TrainTables(train, validation, (text, pair, label), letters, prompt, groups, drop_overlap)
    run(tables, model, out, settings or [], posterior, members)


@app.command()
def posterior(
    adapter: Adapter,
    name: Annotated[str, typer.Argument(help="mc_dropout, heads, tfb, laplace or laplace_lora.")],
    rows: Annotated[
        str | None,
        typer.Option(help="Labelled table: training rows for laplace and laplace_lora, held-out ones for tfb, heads."),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Held-out table that picks the prior precision of laplace or laplace_lora.")
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", help="Of both: pick it by the marginal likelihood (the default, but of --draws)."),
    ] = False,
    draws: Annotated[
        bool, typer.Option("--draws", help="Of laplace_lora: drawn weights predict, not the linearised network.")
    ] = False,
    structure: Annotated[str, typer.Option(help="Of their precision: kron or diag; full for laplace.")] = "kron",
    rate: Annotated[float | None, typer.Option(help="Of mc_dropout (default: as the adapter was trained).")] = None,
    masks: Annotated[str, typer.Option(help="Of mc_dropout: one a sample, or one a token as in peft.")] = "sample",
    samples: Annotated[int | None, typer.Option(help="Adapters to draw (default: the method's own).")] = None,
    base: Base = None,
    device: Device = "cpu",
    precision: Precision = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    max_length: MaxLength = None,
    cache: Cache = None,
    letters: Letters = None,
    prompt: Prompt = None,
    labels: Labels = None,
    quiet: Quiet = False,
) -> None:
    """Make a posterior over adapters from one that is trained; `fit` and `evaluate` then find it beside the adapter."""
    from dubio.cli.common import Session
    from dubio.cli.posterior import Curvature, run

    columns = (text, pair, label)
    session = Session(
        adapter, base, device, precision, columns, max_length, cache, quiet, letters=letters, prompt=prompt,
        labels=labels,
    )  # fmt: skip
    run(session, name, rows, rate, samples, masks, Curvature(validation, structure, evidence, draws))


@app.command()
def fit(
    adapter: Adapter,
    calibration: Annotated[str, typer.Option(help="Held-out table with labels.")],
    train: Annotated[str | None, typer.Option(help="The adapter's training table, with labels.")] = None,
    methods: Annotated[str | None, typer.Option(help="Comma-separated names (default: all; see `methods`).")] = None,
    predictions: Annotated[
        str | None, typer.Option(help="Judge the mean prediction of this posterior (default: the adapter's own).")
    ] = None,
    base: Base = None,
    device: Device = "cpu",
    precision: Precision = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    max_length: MaxLength = None,
    cache: Cache = None,
    artifact: Artifact = None,
    letters: Letters = None,
    prompt: Prompt = None,
    groups: Groups = "repeats",
    labels: Labels = None,
    quiet: Quiet = False,
    drop_overlap: DropOverlap = False,
) -> None:
    """Fit uncertainty onto an adapter; the artifact is written beside it."""
    from dubio.cli.common import Session
    from dubio.cli.fit import run

    columns = text, pair, label
    session = Session(
        adapter, base, device, precision, columns, max_length, cache, quiet, artifact, predictions, letters, prompt,
        groups=groups,
        labels=labels,
    )  # fmt: skip
    run(session, train, calibration, methods, drop=drop_overlap)


@app.command()
def evaluate(
    adapter: Adapter,
    test: Annotated[str, typer.Option(help="Test table with labels, opened once.")],
    ood: Annotated[str | None, typer.Option(help="Table from another domain; labels are not needed.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for index.html and metrics.json.")] = None,
    risk: Annotated[float, typer.Option(help="Budget for the error rate among answered rows.")] = 0.05,
    delta: Annotated[float, typer.Option(help="Chance at which the promise may fail.")] = 0.1,
    base: Base = None,
    device: Device = "cpu",
    precision: Precision = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    max_length: MaxLength = None,
    cache: Cache = None,
    artifact: Artifact = None,
    letters: Letters = None,
    prompt: Prompt = None,
    labels: Labels = None,
    quiet: Quiet = False,
    drop_overlap: DropOverlap = False,
) -> None:
    """Compare all fitted methods on a test table, with intervals, and write the report."""
    from dubio.cli.common import Session
    from dubio.cli.evaluate import run

    columns = (text, pair, label)
    session = Session(
        adapter, base, device, precision, columns, max_length, cache, quiet, artifact, letters=letters, prompt=prompt,
        labels=labels,
    )  # fmt: skip
    run(session, test, ood, report, (risk, delta), drop=drop_overlap)


@app.command()
def score(
    adapter: Adapter,
    table: Annotated[str, typer.Argument(help="Table to score (CSV, TSV, JSONL or Parquet).")],
    output: Annotated[Path, typer.Option(help="Result: .csv, .tsv, .jsonl or .parquet.")],
    risk: Annotated[float, typer.Option(help="Budget for the error rate among answered rows.")] = 0.05,
    delta: Annotated[float, typer.Option(help="Chance at which the promise may fail.")] = 0.1,
    methods: Annotated[
        str | None, typer.Option(help="Whose uncertainty to add, comma-separated, besides the deciding one's (all).")
    ] = None,
    base: Base = None,
    device: Device = "cpu",
    precision: Precision = None,
    text: Text = None,
    pair: Pair = None,
    max_length: MaxLength = None,
    cache: Cache = None,
    artifact: Artifact = None,
    letters: Letters = None,
    prompt: Prompt = None,
    labels: Labels = None,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas",
            help="Put ' before texts of a .csv or .tsv that a spreadsheet would run (=, +, -, @ in front).",
        ),
    ] = False,
    executor: Annotated[str, typer.Option(help="local; ray: Parquet shards by workers of a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the cluster (default: one on this machine).")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Of Ray, each with a model of its own.")] = 2,
    quiet: Quiet = False,
) -> None:
    """Add label, probability, uncertainties, error probability and answer/abstain to each row of a table."""
    from dubio.cli.common import Session
    from dubio.cli.score import run, run_on

    columns = (text, pair, None)
    session = Session(
        adapter, base, device, precision, columns, max_length, cache, quiet, artifact, letters=letters, prompt=prompt,
        labels=labels,
    )  # fmt: skip
    if executor == "local" and address is None:
        run(session, table, output, (risk, delta), methods, escape=escape_formulas)
    elif escape_formulas:
        raise DubioError("--escape-formulas is for one .csv, and --executor ray writes Parquet; leave it out")
    else:
        run_on(executor, session, table, output, (risk, delta), methods, (address, workers))


app.add_typer(tables)

if find_spec("dubio_bench") is not None:
    from dubio_bench.options import bench

    app.add_typer(bench, name="bench")


@app.command()
def methods() -> None:
    """List the methods: what each needs, what it costs, which paper."""
    from dubio.cli.methods import run

    run()


@app.command()
def cache(
    cache: Cache = None,
    prune: Annotated[
        str | None, typer.Option(help="Remove what was not used for longest until so much is left: 5GB, 500MB, 0.")
    ] = None,
) -> None:
    """Show the cache of representations, or make it smaller; what a running process uses stays."""
    from dubio.cli.cache import run

    run(cache, prune)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for adapter, tables, metrics and report.")] = Path("runs/demo"),
) -> None:
    """From nothing to a report: an embedded model on real tweets."""
    from dubio.cli.demo import run

    run(out)


def main() -> None:
    """Entry point: bad usage and a DubioError become one line on standard error and exit code 2."""
    with lasting_output():
        _main()


def _main() -> None:
    odd = next((argument for argument in sys.argv[1:] if not plain_utf8(argument)), None)
    try:
        if odd is not None:
            raise DubioError(f"{odd!r} is not UTF-8; rename the file or folder")
        code = app(prog_name="dubio", standalone_mode=False)
        if code == EXIT_CODE:  # so typer tells of Ctrl-C; older ones, of an abort
            raise KeyboardInterrupt
        print(end="", flush=True)  # a disk that is full is told now
    except DubioError as error:
        _refuse(str(error))
    except ModuleNotFoundError as error:
        message = lacking(error)
        if message is None:
            raise
        _refuse(message)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error, typer.Abort) and not isinstance(error.__cause__, KeyboardInterrupt):
            _refuse("aborted", code=1)
        _refuse(how_to_go_on(sys.argv[1:]), code=EXIT_CODE)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            error.show()
            raise SystemExit(2) from None
        command = "dubio" if error.ctx is None else error.ctx.command_path
        _refuse(f"{error.format_message().rstrip('.')}; see '{command} --help'")
    else:
        raise SystemExit(code or 0)


def _refuse(message: str, code: int = 2) -> NoReturn:
    tell(f"dubio: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
