"""Text that others chose (labels, names, paths), shown so that it stays text: on a terminal, in Markdown, in a table.

A label may hold a terminal's commands, marks that turn the writing round, a picture's address, or a spreadsheet's
formula. Each is shown as the characters that it is made of.
"""

import re
import sys
import unicodedata
from typing import Any

_JOINERS = "\u200c\u200d"  # of Persian, Indian scripts and emoji: they move nothing
_MARKUP = re.compile(r"[\\`*_\[\]<>#!|~&$@{}^]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_ADDRESS = re.compile(r"://|\bwww\.", re.IGNORECASE)
FORMULA = r"^[=+\-@\t\r＝＋－＠]"  # what spreadsheets take for the beginning of one
NUMBER = r"^[+\-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+\-]?[0-9]+)?$"


def plain(text: str, *, keep: str = "") -> str:
    r"""The text with every character that is not to be seen written out, as in `\x1b`; those in `keep` stay.

    Control characters (ESC, BEL, ...), line ends, marks of direction, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or c in _JOINERS or not _unseen(c) else _written(c) for c in text)


def plain_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: a path of other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def tell(*lines: object, file: Any = None) -> None:
    """Prints lines that may hold what others wrote, to standard output or `file`, at once."""
    print(*(plain(str(line), keep="\n\t") for line in lines), sep="\n", file=file or sys.stdout, flush=True)


def for_markdown(text: str) -> str:
    """One line of Markdown, also inside a table's cell, that shows the text and does nothing else."""
    line = _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), plain(" ".join(text.split())))
    return _ADDRESS.sub(lambda found: found[0].replace(":", "\\:").replace(".", "\\."), line)


def as_code(text: str) -> str:
    """The text as a code span of Markdown on one line, also inside a table's cell: nothing in it is interpreted."""
    return f"`{plain(' '.join(text.split())).replace('`', chr(39)).replace('|', chr(0xA6)) or ' '}`"


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
