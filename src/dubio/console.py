"""The terminal that tables are printed on."""

from rich.console import Console


def wide_console() -> Console:
    """The terminal at its own width; files and pipes get 120 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
