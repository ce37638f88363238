"""The plugin: its entry point leads here."""

from __future__ import annotations

from functools import cache

from cano import RetryStrategy, TaskConfig, hookimpl

CANO_API_VERSION = 2


@cache
def _strategies() -> dict[str, RetryStrategy]:
    from cano_retry import Exponential, Fixed, NoRetry  # late: a command that runs nothing needs none

    return {"none": NoRetry(), "fixed": Fixed(3, 1.0), "exponential": Exponential()}


@hookimpl
def cano_retry_strategy(spec: str) -> RetryStrategy | None:
    """Return the strategy named "none" (no retries), "fixed" (3, each after 1 s) or "exponential" (3), else None."""
    return _strategies().get(spec)


@hookimpl(trylast=True)
def cano_default_config() -> TaskConfig:
    """Return the default config: three retries with increasing delays. Another plugin's default takes precedence."""
    return TaskConfig(retry=_strategies()["exponential"])
