"""A fitted artefact from its folder, and the proof that it belongs to the model at hand, before any number is used."""

from pathlib import Path

from dubio.artifacts.store import Artifact, load_artifact
from dubio.errors import ArtifactError
from dubio.models.loading import AdaptedModel
from dubio.models.proofs import check_fingerprint


def open_artifact(folder: str | Path, model: AdaptedModel) -> Artifact:
    """What `fit` left in `folder/dubio/`, every file checked against its hash, and the whole against the model.

    Raises ArtifactError where nothing is fitted there, a file is missing or changed, or the artefact belongs to another
    adapter, or to this one at another precision or maximum length.
    """
    artifact, _ = load_artifact(folder, model.head)
    check_model(artifact, model)
    return artifact


def posteriors_of(artifact: Artifact) -> list[str]:
    """Names of the posteriors whose samples the artefact's methods read, sorted."""
    found = {getattr(method.score.config, "posterior", None) for method in artifact.methods.values()}
    return sorted(name for name in found if name is not None)


def check_model(artifact: Artifact, model: AdaptedModel) -> None:
    """Raises ArtifactError unless the artefact was fitted on this model as it runs now."""
    fitted = artifact.model
    if "precision" not in fitted or "max_length" not in fitted:
        raise ArtifactError("the artefact was saved from arrays, without a model; score arrays with it")
    length = fitted["max_length"]
    if length != model.max_length:
        raise ArtifactError(
            f"the artefact was fitted at {length} tokens a row, not {model.max_length}; drop --max-length (load with "
            f"max_length={length}), or fit again with it"
        )
    if fitted["precision"] != model.precision:
        raise ArtifactError(
            f"the artefact was fitted in {fitted['precision']}, not {model.precision}; drop --precision (load with "
            f"precision={fitted['precision']!r}), or fit again with it"
        )
    check_fingerprint(model, artifact.fingerprint)
