"""Which formats tables come in, told by the file's extension, and the bytes of a table's file, unpacked from gzip."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.safe_reading import MEMORY

WRITABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
READABLE = f"{', '.join(WRITABLE)}, or one of text with .gz behind"  # for messages
_GZIP = ".gz"
_BLOCK = 1 << 16  # bytes unpacked at a time


def format_of(path: Path) -> str:
    """The extension that names the format, such as `.csv`; of a packed file, the one before `.gz`.

    Raises DubioError on an extension that no table has.
    """
    found = kind = path.suffix.lower()
    if kind == _GZIP:
        kind = Path(path.stem).suffix.lower()
        found = f"{kind}{_GZIP}"
    if kind not in WRITABLE or found == f".parquet{_GZIP}":  # Parquet packs its own columns
        raise DubioError(f"{path}: unknown extension {found!r}; give one of {READABLE}")
    return kind


def open_bytes(path: Path) -> io.BufferedReader:
    """The file's bytes, unpacked where its name ends in `.gz`.

    Reading raises DubioError where a packed file is damaged, cut short, no gzip, or does not fit into memory.
    """
    return io.BufferedReader(_Unpacked(path), _BLOCK) if path.suffix.lower() == _GZIP else path.open("rb")


class _Unpacked(io.RawIOBase):
    """A gzip file as it is unpacked; a small file may hold more than the machine's memory, which is refused."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._packed, self._count = path, gzip.GzipFile(path, "rb"), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._packed.read(len(buffer))
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DubioError(f"{self._path}: damaged, or no gzip file ({error}); pack or copy it again") from error
        except EOFError as error:
            raise DubioError(f"{self._path}: the gzip file is cut short; copy it again") from error
        self._count += len(data)
        if self._count > MEMORY:
            raise DubioError(f"{self._path}: its rows do not fit into memory; give a smaller table")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._packed.close()
        super().close()
