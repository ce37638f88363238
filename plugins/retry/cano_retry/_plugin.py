"""What the kernel finds through the entry point."""

from __future__ import annotations

from cano import RetryStrategy, TaskConfig, hookimpl

from cano_retry._exponential import Exponential
from cano_retry._fixed import Fixed
from cano_retry._none import NoRetry

CANO_API_VERSION = 2

_STRATEGIES: dict[str, RetryStrategy] = {
    "none": NoRetry(),
    "fixed": Fixed(3, 1.0),
    "exponential": Exponential(),
}


@hookimpl
def cano_retry_strategy(spec: str) -> RetryStrategy | None:
    """The strategy of that name: no retries, 3 retries a second apart, or 3 with growing pauses."""
    return _STRATEGIES.get(spec)


@hookimpl(trylast=True)
def cano_default_config() -> TaskConfig:
    """Three retries with growing pauses, unless another plugin has its own idea."""
    return TaskConfig(retry=_STRATEGIES["exponential"])
