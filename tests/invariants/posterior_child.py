"""The new process of the posteriors' round trip. Usage: posterior_child.py FOLDER, which holds order.json."""

import json
import sys
from pathlib import Path

import torch
from safetensors.numpy import save_file

from dubio.models.extraction import Extraction
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior


def main(folder: Path) -> None:
    """Writes samples.safetensors: posterior -> samples of the ordered texts."""
    order, found = json.loads((folder / "order.json").read_text(encoding="utf-8")), {}
    for name, adapter in order["adapters"].items():
        sampler = Sampler(host_under(load(adapter)), load_posterior(Path(adapter), name))
        found[name] = sample(sampler, order["texts"], None, Extraction(show=False))
    save_file(found, folder / "samples.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
