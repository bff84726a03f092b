"""dubio tells which predictions of a LoRA-adapted language model can be trusted.

The public names, each imported from its room when it is first used, so that `import dubio` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dubio.api import evaluate as evaluate
    from dubio.api import fit as fit
    from dubio.api import promise as promise
    from dubio.api import score as score
    from dubio.artifacts.store import Artifact as Artifact
    from dubio.artifacts.store import load_artifact as load_artifact
    from dubio.containers import Representations as Representations
    from dubio.containers import Scores as Scores
    from dubio.data.columns import Columns as Columns
    from dubio.data.preparing.checking import check_tables as check_tables
    from dubio.data.preparing.splitting import split_table as split_table
    from dubio.data.prompts import PromptTemplate as PromptTemplate
    from dubio.data.tables import read_table as read_table
    from dubio.data.tables import table_of as table_of
    from dubio.decisions.recalibration import Recalibrator as Recalibrator
    from dubio.decisions.threshold import risk_threshold as risk_threshold
    from dubio.errors import DubioError as DubioError
    from dubio.model_api import extract as extract
    from dubio.model_api import open_artifact as open_artifact
    from dubio.model_api import save as save
    from dubio.models.loading import load as load
    from dubio.models.tokens.answer_letters import Choices as Choices
    from dubio.scores.registry import METHODS as METHODS
    from dubio.scores.registry import get_method as get_method

_HOMES = {
    "Artifact": "artifacts.store",
    "Choices": "models.tokens.answer_letters",
    "Columns": "data.columns",
    "DubioError": "errors",
    "METHODS": "scores.registry",
    "PromptTemplate": "data.prompts",
    "Recalibrator": "decisions.recalibration",
    "Representations": "containers",
    "Scores": "containers",
    "check_tables": "data.preparing.checking",
    "evaluate": "api",
    "extract": "model_api",
    "fit": "api",
    "get_method": "scores.registry",
    "load": "models.loading",
    "load_artifact": "artifacts.store",
    "open_artifact": "model_api",
    "promise": "api",
    "read_table": "data.tables",
    "risk_threshold": "decisions.threshold",
    "save": "model_api",
    "score": "api",
    "split_table": "data.preparing.splitting",
    "table_of": "data.tables",
}

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dubio")
    if name not in _HOMES:
        raise AttributeError(f"module 'dubio' has no attribute {name!r}")
    try:
        return getattr(import_module(f"dubio.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from dubio.extras import lacking

        message = lacking(error)
        if message is None:
            raise
        raise ImportError(f"dubio.{name}: {message}", name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
