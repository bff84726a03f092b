"""A fitted artefact from its folder, and the proof that it belongs to the model at hand, before any number is used."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from dubio.artifacts.store import Artifact, load_artifact
from dubio.errors import ArtifactError
from dubio.models.adapted import AdaptedModel
from dubio.models.checks.load_checks import check_fingerprint
from dubio.posteriors.store import Stored, find_posteriors, load_posterior
from dubio.workflow.binding import changes, is_bound, other_files


def open_artifact(
    folder: str | Path, model: AdaptedModel, posteriors: Mapping[str, Stored] | None = None
) -> Artifact:  # fmt: skip
    """What `fit` left in `folder/dubio/`, every file checked against its hash, and the whole against the model.

    posteriors: those at hand, by name; None: those beside the adapter in the same folder.
    Raises ArtifactError where nothing is fitted there, a file is missing or changed, or the artefact belongs to another
    adapter, or to this one at another precision or maximum length, or one of its posteriors was replaced since.
    """
    artifact, _ = load_artifact(folder, model.head)
    check_model(artifact, model)
    if said := unbound(artifact, model):
        warnings.warn(said, UnboundWarning, stacklevel=2)
    for name in posteriors_of(artifact):
        at_hand = posteriors if posteriors is not None else read_posteriors(folder)
        if name in at_hand and artifact.model.get(f"posterior_{name}_sha256") != at_hand[name].sha256:
            raise ArtifactError(f"posterior {name} is not the one that was fitted on; fit again")
    return artifact


class UnboundWarning(UserWarning):
    """The artifact is of a version of dubio that did not keep all that it was fitted with."""


def unbound(artifact: Artifact, model: AdaptedModel) -> str | None:
    """What is not known of an older artifact, in a sentence; None of one that is bound to all."""
    if is_bound(artifact):
        return None
    other = [what for what in other_files(artifact, model) if f"{what}_sha256" in artifact.model]
    named = f", whose {', '.join(other)} came in other files" if other else ""
    return (
        "an older dubio wrote this artifact, so that only eight texts and the label names tell that it belongs to this "
        f"model{named}; run `dubio fit` again to be sure"
    )


def read_posteriors(adapter: str | Path) -> dict[str, Stored]:
    """The posteriors beside an adapter, by name; raises ArtifactError where one is damaged."""
    return {name: load_posterior(Path(adapter), name) for name in find_posteriors(Path(adapter))}


def posteriors_of(artifact: Artifact) -> list[str]:
    """Names of the posteriors whose samples the artefact's methods read, sorted."""
    found = {getattr(method.score.config, "posterior", None) for method in artifact.methods.values()}
    found.add(artifact.model.get("mean_of"))
    return sorted(name for name in found if name is not None)


def teachers_of(artifact: Artifact) -> list[str]:
    """Names of the posteriors that methods were distilled from, sorted: nothing of theirs is read in scoring."""
    found = {getattr(method.score.config, "teacher", None) for method in artifact.methods.values()}
    return sorted(name for name in found if name is not None)


def check_model(artifact: Artifact, model: AdaptedModel) -> None:
    """Raises ArtifactError unless the artefact was fitted on this model as it runs now; names what differs."""
    fitted = artifact.model
    if "precision" not in fitted or "max_length" not in fitted:
        raise ArtifactError("the artifact was saved from arrays, without a model; score arrays with it")
    length = fitted["max_length"]
    if length != model.max_length:
        raise ArtifactError(
            f"the artifact was fitted at {length} tokens a row, not {model.max_length}; drop --max-length (load with "
            f"max_length={length}), or fit again with it"
        )
    if fitted["precision"] != model.precision:
        raise ArtifactError(
            f"the artifact was fitted in {fitted['precision']}, not {model.precision}; drop --precision (load with "
            f"precision={fitted['precision']!r}), or fit again with it"
        )
    if fitted.get("choices") != (None if model.choices is None else model.choices.facts()):
        raise ArtifactError("the artifact was fitted on other answer letters or another prompt; ask as it was fitted")
    found = changes(artifact, model)
    if found:
        raise ArtifactError(
            f"the artifact belongs to another model: there is a difference in {' and in '.join(found)}; put back what "
            "it was fitted with, or run `dubio fit` again"
        )
    check_fingerprint(model, artifact.fingerprint)
