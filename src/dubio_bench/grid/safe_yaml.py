"""YAML that others wrote, to plain values: no key twice, no aliases that multiply, bounded in size and depth.

An alias stands for what its anchor names, so ten lines may stand for a billion values: what they stand for is counted
before anything is built.
"""

from pathlib import Path
from typing import Any

import yaml

from dubio.errors import DubioError
from dubio.safe_reading import DEEPEST, check_value, read_text, short, unreadable

_LARGEST = 1 << 18  # bytes: PyYAML reads some 100 KiB a second
_MOST = 100_000  # values, with every alias written out
_REMEDY = "mend the file, or name another"


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the last would win, and nobody would see it."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The node, before `<<` is resolved: what is merged may be overridden."""
        node: Any = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name, line = (str(key.tag), str(key.value)), key.start_mark.line + 1
                if name in first:
                    raise DubioError(f"line {line}: {short(key.value)} stands in line {first[name]} already; keep one")
                first[name] = line
        return node


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds; raises DubioError, one line, where it cannot be read or names a key twice."""
    text = read_text(path, limit=_LARGEST, remedy=_REMEDY)
    try:
        loader = _Loader(text)
        node: Any = loader.get_single_node()
        if node is None:
            return None
        _written_out(node, {})
        value = loader.construct_document(node)
        check_value(value)
    except DubioError as error:
        raise DubioError(f"{path}: {error}") from error
    except RecursionError as error:
        raise unreadable(path, f"is nested more than {DEEPEST} deep", _REMEDY) from error
    except yaml.YAMLError as error:
        raise DubioError(f"{path} is not YAML: {_told(error)}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:  # dates that are none, ...
        raise DubioError(f"{path} is not YAML: {_told(error)}") from error
    return value


def _written_out(node: Any, known: dict[int, int]) -> int:
    """Values that a node stands for, aliases written out; raises DubioError on too many, or one inside itself."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise DubioError(f"line {node.start_mark.line + 1}: an alias stands for what it is a part of; write it out")
        return known[id(node)]
    known[id(node)], total = 0, 1
    if isinstance(node, yaml.CollectionNode):
        for part in node.value:
            total += sum(_written_out(own, known) for own in (part if isinstance(part, tuple) else (part,)))
        if total > _MOST:
            raise DubioError(f"line {node.start_mark.line + 1}: its aliases stand for more than {_MOST} values")
    known[id(node)] = total
    return total


def _told(error: Exception) -> str:
    """PyYAML's account in one line of bounded length."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 300 else line[:300] + "…"
