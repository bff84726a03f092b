"""Options that commands of several files share."""

from typing import Annotated

import typer

Text = Annotated[str | None, typer.Option("--text", help="Column of the text (default: text, sentence, ...).")]
Pair = Annotated[str | None, typer.Option("--pair", help="Column of the second text, for pairs.")]
Label = Annotated[str | None, typer.Option("--label", help="Column of the label (default: label).")]
