"""A hub's cache as a download leaves it: repositories with several revisions, to be found by name without a network."""

import shutil

import huggingface_hub.constants


def publish(monkeypatch, cache, name, **revisions):
    """Puts folders into the cache as revisions of `team/NAME`: publish(..., "base", main=folder, v1=other)."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    place = cache / f"models--team--{name}"
    (place / "refs").mkdir(parents=True)
    for at, (revision, folder) in enumerate(revisions.items()):
        commit = f"{at:x}" * 40
        (place / "refs" / revision).write_text(commit)
        shutil.copytree(folder, place / "snapshots" / commit)
    return f"team/{name}"
