"""Standard output and error that cost no result: whoever read them may have gone, and a terminal may know few letters.

In: the streams of a command. Out: the same, from which a closed pipe takes nothing away, letters that the terminal does
not have are told by others, and a full disk is one line.
"""

import codecs
import io
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from dubio.errors import DubioError

# What stands for a letter that the terminal does not have; of all others, their numbers.
_PLAIN = {"–": "-", "—": "-", "−": "-", "‑": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "≤": "<=",
          "≥": ">=", "×": "x", "·": "*", "±": "+-", "→": "->", "ε": "epsilon", "δ": "delta", "λ": "lambda",
          "─": "-", "━": "-", "│": "|", "┃": "|"}  # fmt: skip
_ERRORS = "dubio.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacked = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacked), error.end


codecs.register_error(_ERRORS, _plain)


class _Lasting(io.FileIO):
    """The file under a stream. What nobody reads any more is dropped, and so is what comes after a full disk."""

    lost = False

    def write(self, b: Any, /) -> int:
        """How many bytes are done with: all of them, once nobody reads."""
        size = memoryview(b).nbytes
        if self.lost:
            return size
        try:
            return super().write(b)
        except BrokenPipeError:
            self.lost = True
            return size
        except OSError as error:
            self.lost = True
            raise DubioError(
                f"cannot write to standard output: {error.strerror}; files that were asked for are whole"
            ) from error


@contextmanager
def lasting_output() -> Generator[None]:
    """Standard output and error in this form for as long as the context lasts; streams that are no files stay."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_lasting(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # None where it was closed from the start
                stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:
        stream.reconfigure(errors=_ERRORS)
        return stream
    with suppress(OSError):
        stream.flush()
    own = io.BufferedWriter(_Lasting(raw.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(
        own, stream.encoding, _ERRORS, line_buffering=stream.line_buffering, write_through=stream.write_through
    )
