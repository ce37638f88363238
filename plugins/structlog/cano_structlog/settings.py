"""`LogSettings`: which events are logged, and how."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cano import ConfigurationError
from cano.options import one_of, refuse
from cano.redaction import redacted

from cano_structlog.events import EVENTS, LEVELS

_DEFAULT = "warning"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Settings of the plugin: which events are logged, and how.

    `render` and `stdlib` are ignored if the application has configured structlog; its own filter counts, too.

    Attributes:
        levels: event names (with or without the leading "cano.") to "debug", "info", "warning", "error",
            "critical" or "off". These events are written whatever `level` is, except at "off". Other events have their
            level from `EVENTS`.
        sample_steps: the fraction of runs, from 0 to 1, whose step and transition events are logged. All or none of
            a run's are; failures and retries are always logged.
        data: keys of the data that a run's last event includes; by default none.
        redact: names of keys, fields and parameters whose values are never logged, at any depth of `data` or in an
            error, besides "password", "token" and the like; "pin" covers `card_pin`, too.
        render: "console", "json", or "auto": console on a terminal, else JSON.
        level: the lowest level that is written; "off" is none. None, the default, is "info" if the application has
            configured structlog before the kernel loads its plugins, otherwise "warning".
        stdlib: whether lines go to the standard library's `logging` (logger "cano") instead of stderr.

    Raises:
        ConfigurationError: a value is out of range.
    """

    levels: Mapping[str, str] = field(default_factory=dict)
    sample_steps: float = 1.0
    data: Iterable[str] = ()
    redact: Iterable[str] = ()
    render: str = "auto"
    level: str | None = None
    stdlib: bool = False

    def __post_init__(self) -> None:
        levels = {}
        for name, level in self.levels.items():
            full = name if name.startswith("cano.") else f"cano.{name}"
            if full not in EVENTS:
                raise ConfigurationError(f"levels: there is no event {name!r}; the events are: {', '.join(EVENTS)}")
            if level not in LEVELS:
                raise ConfigurationError(f"levels: {level!r} for {name!r} is not one of: {', '.join(LEVELS)}")
            levels[full] = level
        sample = self.sample_steps
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
            refuse("sample_steps", sample, "a fraction in [0, 1]")
        one_of("render", self.render, ("auto", "console", "json"))
        if self.level is not None:
            one_of("level", self.level, LEVELS)
        for name in ("data", "redact"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} must be a list of keys, not the string {getattr(self, name)!r}")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "data", tuple(self.data))
        object.__setattr__(self, "redact", tuple(self.redact))

    def level_of(self, event: str) -> str:
        """Return the level at which an event is written; "" if it is not written."""
        if (level := self.levels.get(event)) is None:
            level = EVENTS[event]
            if LEVELS.index(level) < LEVELS.index(self.level or _DEFAULT):
                return ""
        return "" if level == "off" else level

    def at_level(self, level: str) -> LogSettings:
        """Return these settings with that `level`."""
        return replace(self, level=level)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LogSettings:
        """Read the settings from the environment.

        The variables are `CANO_LOG` (the level), `CANO_LOG_LEVELS` (such as `step.started=info,run.started=off`),
        `CANO_LOG_SAMPLE_STEPS`, `CANO_LOG_DATA` and `CANO_LOG_REDACT` (comma-separated), `CANO_LOG_RENDER` and
        `CANO_LOG_STDLIB` (0 or 1).

        Raises:
            ConfigurationError: a variable has a wrong value.
        """
        env = os.environ if environment is None else environment
        try:
            if (level := env.get("CANO_LOG", "").strip().lower()) and level not in LEVELS:
                raise ConfigurationError(f"CANO_LOG must be one of: {', '.join(LEVELS)}; not {level!r}")
            pairs = [part.partition("=") for part in _parts(env.get("CANO_LOG_LEVELS", ""))]
            if any(not equals for _, equals, _ in pairs):
                raise ConfigurationError("CANO_LOG_LEVELS must look like step.started=info,run.started=off")
            return cls(
                levels={name.strip(): level.strip() for name, _, level in pairs},
                sample_steps=_number("CANO_LOG_SAMPLE_STEPS", env.get("CANO_LOG_SAMPLE_STEPS", "1")),
                data=_parts(env.get("CANO_LOG_DATA", "")),
                redact=_parts(env.get("CANO_LOG_REDACT", "")),
                render=env.get("CANO_LOG_RENDER", "auto"),
                level=level or None,
                stdlib=env.get("CANO_LOG_STDLIB", "0") not in ("", "0"),
            )
        except ConfigurationError as error:
            error.add_note("set by an environment variable CANO_LOG_…")
            raise

    def redacted(self, value: Any) -> Any:
        """Return a copy of `value` without secrets; see `cano.redaction.redacted`."""
        return redacted(value, tuple(self.redact))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name} must be a number, not {text!r}") from None
