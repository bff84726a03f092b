"""An artefact without a model: planted rows stand for what one has made of texts."""

import numpy as np

from dubio.artifacts.manifest import SplitFacts
from dubio.artifacts.store import Artifact
from dubio.workflow.fitting import FitPlan, fit_methods
from synthetic import planted

METHODS = ("softmax_response", "temperature", "md", "probe")
LABELS = ("red", "green", "blue")


def made(seed=0):
    train, head = planted(300, seed=seed)
    calibration, _ = planted(300, seed=seed + 50)
    fit = fit_methods(train, calibration, head, FitPlan(METHODS, show=False))
    return Artifact(
        methods=fit.methods, choice=fit.choice, errors=fit.errors, model={"adapter": f"a{seed}"}, labels=LABELS,
        splits={"train": SplitFacts(rows=300, duplicates=0, sha256="0")},
        hashes={"train": np.full((300, 16), seed, dtype=np.uint8)}, fingerprint=calibration.logits[:8],
    )  # fmt: skip
