"""The errors that dubio raises on purpose: one line that says what is wrong and what to do."""


class DubioError(ValueError):
    """Bad input or a refused operation. The command line prints it on one line and exits with code 2."""


class NotFittedError(DubioError):
    """A method was asked for scores before `fit`."""


class ProofError(DubioError):
    """A loaded model failed one of its two proofs (head = logits, adapter applied), so no number may be shown."""


class ArtifactError(DubioError):
    """A stored artefact is damaged, of another schema, or belongs to another adapter."""
