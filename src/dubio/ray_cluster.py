"""A Ray cluster to work on: one that is there, or a new one of this machine."""

import logging
from typing import Any

from dubio.errors import DubioError


def connect(address: str | None, cpus: int | None) -> Any:
    """Ray, connected to a cluster, or to a new one of this machine; raises DubioError where either is not there."""
    try:
        import ray
    except ImportError as error:
        raise DubioError("--executor ray needs Ray: pip install 'dubio[ray]'") from error
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DubioError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:200]}") from error
    return ray
