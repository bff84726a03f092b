"""What the classes of a model are called: by the adapter's own config.json, dubio's record, or the base; else by you.

A label "positive" of a table must never become another class, so names that contradict each other are refused.
"""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from dubio.data.labels import same_name
from dubio.errors import DubioError
from dubio.models.adapter.files import RECORD, AdapterFiles, head_rows
from dubio.models.bases.problem import beside
from dubio.safe_reading import read_json, read_text

_SHOWN = 8  # names in a message


def class_names(
    config: Any, files: AdapterFiles | None, asked: Sequence[str] | None = None, choices: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The C names in the order of the logits, `LABEL_0`, `LABEL_1`, ... where nobody gives any.

    config: of the model as loaded. asked: names from the user. choices: of answer letters, which are names enough.
    Raises DubioError, with both, where names contradict each other; on names that are not one for each class.
    """
    count = int(config.num_labels)
    if choices is not None:
        if asked is not None and tuple(asked) != tuple(choices):
            raise DubioError(
                f"a model that answers by letters calls its classes {_listed(choices)}; leave --labels out"
            )
        return tuple(choices)
    given: tuple[str, ...] | None = None
    if asked is not None:
        check_list(asked)
        given = _checked(dict(enumerate(asked)), "--labels", count)
    known: tuple[tuple[str, ...], str] | None = None
    if files is not None:
        own = beside(files)
        found = [
            (_names(own, f"{files.folder}/config.json", count, given), f"{files.folder}/config.json"),
            (_recorded(files, count), f"{files.folder}/{RECORD}"),
        ]
        told = [(names, where) for names, where in found if names is not None]
        if len(told) == 2 and not _same(told[0][0], told[1][0]):
            raise _contradiction(*told)
        known = told[0] if told else None
    if known is None:
        where = f"{config.name_or_path}/config.json" if files is None else f"the config of the base {files.base}"
        base = {"id2label": dict(config.id2label), "label2id": dict(getattr(config, "label2id", None) or {})}
        names = _names(base, where, count, given)
        mine = files is not None and head_rows(files) is not None  # trained anew, perhaps for other classes
        if names is not None and not (given is not None and mine and {*map(_key, names)} != {*map(_key, given)}):
            known = names, where
    if known is None:
        return given or tuple(f"LABEL_{i}" for i in range(count))
    if given is not None and not _same(known[0], given):
        raise _contradiction(known, (given, "--labels"))
    return known[0]


def check_list(asked: Any) -> None:
    """Raises DubioError on names without an order of their own, or that are no text: they come from a program."""
    if isinstance(asked, str | Mapping | Set) or not all(isinstance(name, str) for name in asked):
        raise DubioError(
            f"labels: expected a list of names in the model's order, such as ['no', 'yes'], got {str(asked)[:60]!r}"
        )


def are_given(names: Sequence[str]) -> bool:
    """Whether somebody has given these names: transformers' own are LABEL_0, LABEL_1, ..."""
    return any(name != f"LABEL_{i}" for i, name in enumerate(names))


def read_labels(text: str) -> tuple[str, ...]:
    """Names from `a,b,c`, or from a file: one a line, or JSON (a list, or a config.json with its id2label).

    Raises DubioError on a file that holds something else, and on no names.
    """
    path = Path(text)
    if len(text) > 255 or not path.is_file():
        if path.suffix in (".txt", ".json") or ("/" in text and "," not in text):
            raise DubioError(f"--labels: there is no file {text}; name one, or write the names as a,b,c")
        found: Any = [name.strip() for name in text.split(",")]
    elif path.suffix == ".json":
        facts = read_json(path)
        found = facts if isinstance(facts, list) else _pairs(facts, str(path))
        if isinstance(found, dict):
            found = list(_checked(found, str(path), len(found)))
    else:
        found = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not found or not all(isinstance(name, str) and name for name in found):
        raise DubioError(f"--labels {text[:60]!r} holds no names, one for each class, as in --labels ham,spam")
    return tuple(found)


def _names(facts: Mapping[str, Any], where: str, count: int, given: Any) -> tuple[str, ...] | None:
    """From a config's `id2label`, or else its `label2id`; None where it has none, or transformers' own."""
    pairs = _pairs(facts, where)
    if not pairs or all(name == f"LABEL_{i}" for i, name in pairs.items()):
        return None
    try:
        names = _checked(pairs, where, count)
        _check_back(facts, names, where)
    except DubioError:
        if given is None:
            raise
        return None  # broken, and the user says what is meant
    return names


def _check_back(facts: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Raises DubioError where `label2id` numbers a class otherwise than `id2label` does."""
    back: Any = facts.get("label2id")
    if isinstance(back, Mapping) and facts.get("id2label"):
        told = {_key(name): i for name, i in back.items()}
        wrong = next((name for i, name in enumerate(names) if told.get(_key(name), i) != i), None)
        if wrong is not None:
            raise DubioError(
                f"{where} contradicts itself: {wrong!r} is class {names.index(wrong)} in id2label and class "
                f"{told[_key(wrong)]} in label2id; mend it"
            )


def _pairs(facts: Any, where: str) -> dict[int, str]:
    """Number -> name."""
    if not isinstance(facts, Mapping):
        raise DubioError(f"{where} holds no names of classes; write them as a list, or as id2label of a config.json")
    table: Any = facts.get("id2label")
    back: Any = facts.get("label2id")
    if not table and isinstance(back, Mapping):
        table = {number: name for name, number in back.items()}
    if not isinstance(table, Mapping):
        return {}
    try:
        return {int(number): str(name) for number, name in table.items()}
    except (TypeError, ValueError) as error:
        raise DubioError(f"{where}: id2label numbers its classes by something else than numbers; mend it") from error


def _recorded(files: AdapterFiles, count: int) -> tuple[str, ...] | None:
    found: Any = files.record.get("labels")
    if not isinstance(found, list):
        return None
    return _checked(dict(enumerate(map(str, found))), f"{files.folder}/{RECORD}", count)


def _checked(pairs: Mapping[int, str], where: str, count: int) -> tuple[str, ...]:
    """In order; raises DubioError unless there is one name of its own for each of the classes."""
    if sorted(pairs) != list(range(count)):
        numbers = ", ".join(map(str, sorted(pairs)[:_SHOWN]))
        raise DubioError(
            f"{where} names classes {numbers}, and the model has {count}, numbered from 0 to {count - 1}; mend it, or "
            "name them in order with --labels"
        )
    names = tuple(pairs[i] for i in range(count))
    for i, name in enumerate(names):
        if not name.strip():
            raise DubioError(f"{where}: class {i} has no name; mend it, or name the classes with --labels")
        if name.strip() in [other.strip() for other in names[:i]]:
            raise DubioError(f"{where} calls two classes {name!r}; mend it, or name the classes with --labels")
    return names


def _contradiction(first: tuple[Sequence[str], str], second: tuple[Sequence[str], str]) -> DubioError:
    told = [f"{where} calls the classes {_listed(names)}" for names, where in (first, second)]
    return DubioError(f"{told[0]}, and {told[1]}; mend the one that is wrong")


def _same(first: Sequence[str], second: Sequence[str]) -> bool:
    return [*map(_key, first)] == [*map(_key, second)]


def _key(name: str) -> str:
    """As labels of a table are compared."""
    return same_name(str(name))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
