"""The plugin: its entry point leads here."""

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
    """Return the strategy named "none" (no retries), "fixed" (3, each after 1 s) or "exponential" (3), else None."""
    return _STRATEGIES.get(spec)


@hookimpl(trylast=True)
def cano_default_config() -> TaskConfig:
    """Return the default config: three retries with increasing delays. Another plugin's default takes precedence."""
    return TaskConfig(retry=_STRATEGIES["exponential"])
