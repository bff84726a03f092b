"""The one door for files that others wrote: what is no file, too large, too deep or no number is one line, at once."""

import copy
import json
import os
import socket
import time
from pathlib import Path

import pytest
import yaml

from dubio.errors import DubioError
from dubio.files import make_folder, sha256_file, write_text
from dubio.safe_reading import (
    DEEPEST,
    MissingFileError,
    UnreadableError,
    check_file,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    read_object,
    read_text,
    short,
)
from dubio_bench.grid.safe_yaml import read_yaml


@pytest.fixture(autouse=True)
def at_once():
    """Nothing here may wait for anybody."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 5


def folder(path):
    path.mkdir()


def pipe(path):
    os.mkfifo(path)


def linked_pipe(path):
    os.mkfifo(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def device(path):
    path.symlink_to("/dev/zero")


def terminal(path):
    path.symlink_to("/dev/tty")


def dangling(path):
    path.symlink_to("nowhere")


def ring(path):
    path.symlink_to(path.name)


def unix_socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def giant(path):
    with path.open("wb") as opened:
        opened.truncate(1 << 40)


ODD = {
    folder: "is a folder, not a file", pipe: "is a named pipe, not a file", linked_pipe: "is a named pipe, not a file",
    device: "is a device, not a file", terminal: "is a device, not a file", dangling: "is a link to nothing",
    ring: "cannot be read", unix_socket: "is a socket, not a file", giant: "has 1 TiB, and at most",
}  # fmt: skip
READERS = (check_file, open_file, read_bytes, read_text, read_json, read_object, read_yaml)


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_what_is_no_file_of_a_sound_size_is_never_waited_for(tmp_path, make):
    path = tmp_path / "settings"
    make(path)
    for reader in READERS:
        with pytest.raises(UnreadableError) as caught:
            reader(path)
        told = str(caught.value)
        assert ODD[make] in told
        assert str(path) in told
        assert "\n" not in told


@pytest.mark.parametrize("name", ["a\0b", "half \ud800 of a pair", "nowhere.json"])
def test_names_that_no_file_has(tmp_path, name):
    for reader in READERS:
        with pytest.raises(UnreadableError) as caught:
            reader(f"{tmp_path}/{name}")
        assert "\n" not in str(caught.value)


def test_an_absent_file_is_told_apart(tmp_path):
    with pytest.raises(MissingFileError, match="there is no file") as caught:
        read_json(tmp_path / "no.json")
    assert caught.value.reason == "is missing"
    assert str(copy.copy(caught.value)) == str(caught.value)  # as between processes


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("{}")

    def forbid(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbid)
    with pytest.raises(UnreadableError, match=r"cannot be read \(Permission denied\)"):
        read_json(path)


def test_the_limit_holds_where_the_system_tells_no_size(tmp_path):
    path = "/proc/self/status"  # of no bytes, says stat
    if not Path(path).exists():
        pytest.skip("no /proc here")
    assert check_file(path) == 0
    with pytest.raises(UnreadableError, match="is longer than 10 bytes"):
        read_bytes(path, limit=10)


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    for reader in (read_text, read_json, read_yaml):
        with pytest.raises(UnreadableError, match="is not UTF-8 text"):
            reader(path)


SPOILT = {
    "[" * 100_000: "is nested more than 100 deep", '{"a":' * 100_000: "is nested more than 100 deep",
    "[" * 101 + "]" * 101: "is nested more than 100 deep", '[{"a": NaN}]': "holds 'NaN', which is no number",
    "[-Infinity]": "which is no number", "[1e999]": "which is no number",
    "[" + "9" * 5000 + "]": "is not readable JSON",
    "[" + "9" * 4000 + "]": "too large to reckon with",
    '"\\ud800"': "half of a surrogate pair", '{"\\udfff": 1}': "half of a surrogate pair", "": "is not readable JSON",
    '{"a": }': "is not readable JSON", "\ufeff{}": "is not readable JSON", "[1] [2]": "is not readable JSON",
}  # fmt: skip


@pytest.mark.parametrize("text", SPOILT, ids=lambda text: ascii(text[:20]))
def test_json_that_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableError) as caught:
        read_json(path)
    assert SPOILT[text] in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_json_that_is_read(tmp_path):
    value = {
        "deep": json.loads("[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)),
        "text": "ä \0 😀",
        "numbers": [1, 2.5, -3e9],
    }
    assert parse_json(json.dumps(value), "here") == value
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read_object(path) == value
    path.write_text("[]")
    with pytest.raises(UnreadableError, match="is not a JSON object"):
        read_object(path)


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "blob").write_text("[1]")
    (tmp_path / "link.json").symlink_to("blob")  # as in the hub's cache
    assert read_json(tmp_path / "link.json") == [1]


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "m0: &m0 {k: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
BAD_YAML = {
    LAUGHS: "its aliases stand for more than", MERGES: "its aliases stand for more than",
    "a: &a [*a]": "an alias stands for what it is a part of", "[" * 100_000: "is nested more than",
    "- " * 50_000: "is nested more than", "{a: " * 50_000: "is nested more than", "? " * 50_000: "is nested more than",
    "[" * 101 + "]" * 101: "nested more than", "a: .inf": "not finite", "a: [.nan]": "not finite",
    "a: !!timestamp x": "is not YAML", "a: !!int ''": "is not YAML", "a: !!bool maybe": "is not YAML",
    "a: !!python/object/apply:os.system [touch /tmp/no]": "is not YAML", "? [a]\n: 1": "is not YAML",
    "a: 0x" + "f" * 5000: "too large to reckon with",
    "a: 1\na: 2": "stands in line 1 already", f"{'k' * 900}: 1\n{'k' * 900}: 2": "keep one",
    'a: "\\ud800"': "", "a: \0": "is not YAML",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_YAML, ids=lambda text: ascii(text[:20]))
def test_yaml_that_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DubioError) as caught:
        read_yaml(path)
    assert BAD_YAML[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_yaml_that_is_read(tmp_path):
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 5}\nc: [*a, *a]\n"
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert read_yaml(path) == yaml.safe_load(text)
    path.write_text("")
    assert read_yaml(path) is None


def test_values_in_messages_are_short():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in ("x" * 10**6, b"x" * 10**6, [["x" * 10**5] * 1000] * 1000, {str(n): n for n in range(10**5)}, deep,
                  10**4000, 10**5000, "a\nb\x1b[31m"):  # fmt: skip
        told = short(value)
        assert len(told) < 80
        assert told.isprintable()
    assert short("plain") == "'plain'"


def test_no_hash_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(UnreadableError, match="is a named pipe"):
        sha256_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a\0b", "half \ud800 of a pair"])
def test_no_file_is_written_under_a_name_that_none_has(tmp_path, name):
    with pytest.raises(DubioError, match="cannot write"):
        write_text(tmp_path / name / "a.txt", "x")
    with pytest.raises(DubioError, match="cannot write"):
        make_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
