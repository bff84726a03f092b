"""The cache keeps within its limit by what was not used for longest, and takes nothing from who still reads."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from dubio.errors import DubioError
from dubio.models import cache_limit
from dubio.models.cache import StoredRepresentations, save_shard
from dubio.models.cache_limit import limit, prune, shards_in, size_of, use
from tiny_classifier import dubio

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """What this process uses is forgotten: other tests used other caches."""
    held = cache_limit._Held()
    monkeypatch.setattr(cache_limit, "_held", held)
    yield held
    for handle in held.locks.values():
        os.close(handle)


def shard(folder, number, days):
    """A shard that was last used so many days ago."""
    path = folder / f"{hashlib.sha256(bytes([number])).hexdigest()}.safetensors"
    save_shard(path, np.full((4, 50), number, np.float32), np.zeros((4, 3), np.float32))
    when = time.time() - days * DAY
    os.utime(path, (when, when - 5 * DAY))
    return path


def cache(folder, *days):
    return [shard(folder, number, day) for number, day in enumerate(days)]


def there(paths):
    return [path.exists() for path in paths]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    paths = cache(tmp_path, 3, 9, 5, 1)
    size = paths[0].stat().st_size
    strangers = [tmp_path / name for name in ("model.safetensors", "0" * 64, "thesis.txt", f"{'a' * 63}.safetensors")]
    for path in strangers:
        path.write_bytes(bytes(10_000))
    (tmp_path / f"{'b' * 64}.safetensors").symlink_to(strangers[0])
    (tmp_path / f"{'c' * 64}.safetensors").mkdir()
    assert [found.path for found in shards_in(tmp_path)] == [paths[k] for k in (1, 2, 0, 3)]
    done = prune(tmp_path, 2 * size)
    assert (done.shards, done.size, done.left, done.others) == (2, 2 * size, 2 * size, False)
    assert there(paths) == [True, False, False, True]
    assert prune(tmp_path, 2 * size).shards == 0
    assert prune(tmp_path, 0).left == 0
    assert all(there(strangers))
    assert len(list(tmp_path.iterdir())) == len(strangers) + 2


def test_what_this_process_uses_stays(tmp_path):
    paths = cache(tmp_path, 30, 30, 30)
    mtime = paths[1].stat().st_mtime_ns
    use([paths[1]])
    assert paths[1].stat().st_mtime_ns == mtime
    assert time.time() - shards_in(tmp_path)[-1].used < 60
    assert prune(tmp_path, 0).others
    assert there(paths) == [False, True, False]


def test_reading_is_using(tmp_path):
    paths = cache(tmp_path, 30, 30)
    StoredRepresentations((paths[0],), (4,)).load()
    prune(tmp_path, 0)
    assert there(paths) == [True, False]


@pytest.mark.parametrize("known", [True, False], ids=["held by another", "no locks"])
def test_beside_another_process_only_what_is_a_week_old_goes(tmp_path, monkeypatch, known):
    paths = cache(tmp_path, 30, 8, 6, 2)
    other = os.open(tmp_path, os.O_RDONLY)
    if known:
        fcntl.flock(other, fcntl.LOCK_SH)  # as a process that reads it
    else:
        monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError("no locks here")))
    assert prune(tmp_path, 0).others
    assert there(paths) == [False, False, True, True]
    os.close(other)
    if known:
        prune(tmp_path, 0)
        assert not any(there(paths))


def test_two_processes_may_hold_a_cache_at_once(tmp_path):
    cache(tmp_path, 1)
    code = (
        "import sys; from pathlib import Path; from dubio.models.cache_limit import use, shards_in\n"
        "use([found.path for found in shards_in(Path(sys.argv[1]))]); print('in', flush=True); sys.stdin.read()"
    )
    paths = cache(tmp_path, 3, 20)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
    )
    assert child.stdout.readline() == b"in\n"
    new = shard(tmp_path, 7, 2)
    use([new])
    assert prune(tmp_path, 0).shards == 0  # all were used by one of the two just now
    assert all(there([*paths, new]))
    child.communicate()
    prune(tmp_path, 0)
    assert there([*paths, new]) == [False, False, True]


def test_a_cache_keeps_within_its_limit_by_itself(tmp_path, monkeypatch):
    paths = cache(tmp_path, 30, 20, 0.5)
    size = paths[0].stat().st_size
    monkeypatch.setenv("DUBIO_CACHE_LIMIT", str(3 * size))
    listed, real = [], cache_limit.shards_in
    monkeypatch.setattr(cache_limit, "shards_in", lambda folder: listed.append(1) or real(folder))
    made = []
    for number in range(10, 16):
        made.append(shard(tmp_path, number, 0))
        use([made[-1]], written=size)
    assert there(paths) == [False, False, True]  # of the last day, nothing goes
    assert all(there(made))
    monkeypatch.setenv("DUBIO_CACHE_LIMIT", "none")
    use([shard(tmp_path, 20, 0)], written=size)
    count = len(listed)
    monkeypatch.setenv("DUBIO_CACHE_LIMIT", "1GB")
    for number in range(30, 40):
        use([shard(tmp_path, number, 0)], written=size)
    assert len(listed) <= count + 1  # the folder is listed when room may be short, not at every write


def test_sizes(monkeypatch):
    assert [size_of(text) for text in ("0", "7", "5GB", "500 MB", "1.5TiB", "2k", "3 kib", "none", " NONE ")] == [
        0, 7, 5 * 10**9, 5 * 10**8, int(1.5 * 2**40), 2000, 3072, None, None,
    ]  # fmt: skip
    for text in ("", "-1", "5XB", "GB", "1e9", "nan", "5 GB more"):
        with pytest.raises(DubioError, match="is no size; give one such as 5GB"):
            size_of(text)
    monkeypatch.delenv("DUBIO_CACHE_LIMIT", raising=False)
    assert limit() == 20 * 10**9
    monkeypatch.setenv("DUBIO_CACHE_LIMIT", "much")
    with pytest.raises(DubioError, match="DUBIO_CACHE_LIMIT: 'much' is no size"):
        limit()


def test_the_command_shows_and_prunes(tmp_path, monkeypatch):
    monkeypatch.setenv("DUBIO_CACHE", str(tmp_path))
    folder = tmp_path / "representations"
    shown = dubio("cache")
    assert (shown.code, shown.err) == (0, "")
    assert f"{folder}: 0 shards, 0 bytes" in shown.out
    assert not folder.exists()
    paths = cache(folder, 3, 9, 5)
    size = paths[0].stat().st_size
    shown = dubio("cache")
    assert (
        f"{folder}: 3 shards, {3 * size / 1000:.3g} kB\nlimit: 20 GB (to change it, set DUBIO_CACHE_LIMIT)" in shown.out
    )
    done = dubio("cache", "--prune", size)
    assert done.code == 0
    assert done.out.startswith(f"removed 2 shards, {2 * size / 1000:.3g} kB; ")
    assert there(paths) == [True, False, False]
    other = tmp_path / "other"
    more = cache(other, 3)
    assert dubio("cache", "--cache", other, "--prune", "0").code == 0
    assert there([*paths, *more]) == [True, False, False, False]
    refused = dubio("cache", "--prune", "much")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("dubio: 'much' is no size")
