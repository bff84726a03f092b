"""A base's settings, looked at before its weights: is it at hand, can transformers run it, is it quantised."""

import contextlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.utils.hub import cached_file

from dubio.errors import DubioError
from dubio.models.adapter.foreign_code import FILES, INDEX, check_model_settings, check_shards
from dubio.models.bases.locating import locate_base, not_at_hand
from dubio.models.bases.sizes import check_base_sizes, check_files
from dubio.safe_reading import read_object

# A way to quantise -> the package that holds its arithmetic; the others need none, or transformers names it.
_PACKAGES = {
    "bitsandbytes": "bitsandbytes", "bitsandbytes_4bit": "bitsandbytes", "bitsandbytes_8bit": "bitsandbytes",
    "gptq": "gptqmodel", "awq": "gptqmodel", "aqlm": "aqlm", "hqq": "hqq", "eetq": "eetq", "quanto": "optimum",
    "torchao": "torchao", "compressed-tensors": "compressed_tensors", "auto-round": "auto_round", "vptq": "vptq",
    "spqr": "spqr_quant", "higgs": "flute", "fbgemm_fp8": "fbgemm_gpu",
}  # fmt: skip
ADAPTER = "adapter_config.json"
_LONGEST = 400  # characters of somebody else's reason


def check_base(base: str) -> None:
    """Raises DubioError for a base that is not at hand, names code of its own, is quantised in a way that is not, or
    holds an adapter besides.

    Its sizes must be those of its weights.
    """
    where, more = locate_base(base)
    if "gguf_file" in more:
        return
    folder = Path(where)
    if not folder.is_dir():
        folder = _fetched(base, where, more)
    if (folder / ADAPTER).is_file():
        raise DubioError(
            f"the base model {base} holds an adapter too ({ADAPTER}), which transformers would put on it; name the "
            "base alone, or the model with that adapter merged into it"
        )
    check_files(folder)
    check_model_settings(folder)
    check_shards(folder)
    facts = read_object(folder / "config.json", finite=False, remedy="save the base again")
    check_base_sizes(folder, facts)
    quantised = facts.get("quantization_config")
    if isinstance(quantised, Mapping):
        _check_quantised(base, quantised)


def reason_of(error: BaseException) -> str:
    """Kind and text of somebody else's error on one line, cut between words if it is long."""
    text = " ".join(str(error).split()) or "no reason given"
    if "Unrecognized configuration class" in text:
        return "transformers has no sequence classifier for its architecture; dubio reads models that classify text"
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rpartition(" ")[0] + " ..."
    return f"{type(error).__name__}: {text}"


def _fetched(base: str, name: str, more: Mapping[str, str]) -> Path:
    """The folder of a hub id's settings, fetched where they are not here yet."""
    try:
        config: Any = cached_file(name, "config.json", **more)
    except (OSError, ValueError) as error:
        raise not_at_hand(base, error) from error
    for file in (*FILES, ADAPTER, INDEX):
        with contextlib.suppress(OSError, ValueError):  # that a repository has all of them is not to be expected
            cached_file(name, file, **more)
    return Path(config).parent


def moved(model: Any, base: str, device: str, dtype: torch.dtype | None = None) -> Any:
    """The model on a device, in a precision; raises DubioError where a quantised one cannot be, or memory is short."""
    try:
        return model.to(device=device) if dtype is None else model.to(device=device, dtype=dtype)
    except (ValueError, RuntimeError) as error:
        how = "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"
        raise DubioError(f"the base model {base} does not go to {device}{how}: {reason_of(error)}") from error


def _check_quantised(base: str, settings: Mapping[str, Any]) -> None:
    loads = any(settings.get(name) for name in ("load_in_4bit", "load_in_8bit"))
    method = str(settings.get("quant_method") or ("bitsandbytes" if loads else "unknown"))
    known = {*_PACKAGES, *AUTO_QUANTIZER_MAPPING}
    if method not in known:
        raise DubioError(
            f"the base model {base} is quantised by {method[:40]!r}, which transformers does not know; name the "
            "unquantised base with --base"
        )
    package = _PACKAGES.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        raise DubioError(
            f"the base model {base} is quantised by {method}, which needs the package {package}; install it, or name "
            "the unquantised base with --base"
        )
