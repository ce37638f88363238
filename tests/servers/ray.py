"""A real Ray cluster for tests: a head and two places for calls, to which the process of the tests is connected."""

from __future__ import annotations

import importlib.util
import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.servers.missing import not_installed

PLACES = 2


def require_ray() -> None:
    """Fail or skip the test if Ray is not installed; see `not_installed`."""
    if importlib.util.find_spec("ray") is None:
        not_installed("Ray", "CI=true sh .ci/setup.sh")


def connected() -> str:
    """Start a cluster, unless there is one, and return the address of its head."""
    require_ray()
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local", num_cpus=PLACES, num_gpus=1, resources={"TPU": 1}, include_dashboard=False,
            log_to_driver=False, logging_level="error", object_store_memory=100_000_000,
        )  # fmt: skip
    return str(ray.get_runtime_context().gcs_address)


def disconnected() -> bool:
    """End the cluster, if there is one, and return whether there was one."""
    if importlib.util.find_spec("ray") is None:
        return False
    import ray

    there: bool = ray.is_initialized()
    ray.shutdown()
    return there


def kill_head() -> None:
    """Kill the server of the head, which is a child of this process."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            name, _, rest = stat.read_text().rpartition(")")
            if name.endswith("(gcs_server") and rest.split()[1] == str(os.getpid()):
                os.kill(int(stat.parent.name), signal.SIGKILL)
                return
    raise AssertionError("this process has started no head")
