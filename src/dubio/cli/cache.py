"""`dubio cache`: what the cache of representations holds, and making it smaller."""

from datetime import datetime
from pathlib import Path

from dubio.cli.common import Session
from dubio.models.cache_limit import VARIABLE, limit, prune, shards_in, size_of
from dubio.showing import tell


def run(cache: Path | None, smaller: str | None) -> None:
    """Prints folder, size, limit and ages; removes what was not used for longest until the cache is so small."""
    folder = Session("", cache=cache).cache_folder
    wanted = None if smaller is None else size_of(smaller)
    most = limit()
    if wanted is not None and folder.is_dir():
        done = prune(folder, wanted)
        tell(f"removed {done.shards} shards, {shown(done.size)}; {shown(done.left)} are left")
        if done.others and done.left > wanted:
            tell("what is left may be in use by another process, and was used within a week; prune again later")
    found = shards_in(folder)
    tell(f"{folder}: {len(found)} shards, {shown(sum(shard.size for shard in found))}")
    tell(f"limit: {'none' if most is None else shown(most)} (to change it, set {VARIABLE})")
    if found:
        first, last = (datetime.fromtimestamp(found[at].used).astimezone() for at in (0, -1))
        tell(f"last used: from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}")


def shown(size: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
