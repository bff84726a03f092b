"""What a command that was stopped by Ctrl-C tells: in one line, how to go on."""

from collections.abc import Sequence

EXIT_CODE = 130  # of a command that SIGINT has ended: 128 + 2, as shells say it

_ROWS = "run the same command again: rows that went through the model are kept in the cache, and are not run again"
_EPOCHS = "run the same command again: finished epochs are kept, and it goes on from the last one"
_ANEW = "nothing was written; run the same command again to start over"
_GOES_ON = {
    "fit": _ROWS,
    "evaluate": _ROWS,
    "score": _ROWS,
    "train": _EPOCHS,
    "bench": "run the same command again: finished steps are kept, and it goes on from there",
    "demo": "run the same command again: finished stages are kept, and it goes on from there",
}


def how_to_go_on(arguments: Sequence[str]) -> str:
    """The line for the command line `arguments` (without the program's name)."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command == "score" and any(word == "ray" or word == "--executor=ray" for word in arguments):
        return f"stopped; {_ANEW}"  # workers keep nothing
    return f"stopped; {_GOES_ON.get(command, _ANEW)}"
