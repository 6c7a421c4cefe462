"""When a failed attempt is followed by another one, and after how long: what config says, as a value.

Owns the words of ``step_retries`` and the arithmetic of backoff. Refuses to know why a particular attempt
ended: whoever does asks whether that is among what is retried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.units import parse_duration

# Reasons of an engine that can be named; "step" is any failure of the step's own.
REASONS = ("step", "oom", "timeout", "lost", "infra")
_KEYS = ("limit", "on", "delay", "factor", "max_delay")
_EXCEPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_MOST = 1000
# What is nobody's fault in the step is repeated a few times, whether or not the step asks for it.
FREE = ("lost",)
FREE_LIMIT = 3


@dataclass(frozen=True)
class RetryPolicy:
    """At most ``limit`` further attempts after failures that are ``on`` the list; an empty list is every one.

    ``on`` holds reasons, exit codes, and names of exceptions (``ConnectionError``, or qualified). The n-th
    further attempt waits ``delay * factor**(n-1)`` seconds, at most ``max_delay``, and of that a random part
    of up to one half less, so that steps which failed together do not come back together.
    """

    limit: int = 0
    on: tuple[str | int, ...] = ()
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0

    def covers(self, reason: str, exit_code: int | None, exceptions: Iterable[str]) -> bool:
        """Say whether a failure is one that is retried.

        ``reason`` is an engine's, ``exceptions`` are names of the step's own exception, any spelling.
        """
        if not self.on:
            return True
        names = {*exceptions, reason}
        return bool(names & set(self.on)) or (exit_code is not None and exit_code in self.on)

    def pause(self, number: int, chance: float) -> float:
        """Return the seconds before the ``number``-th further attempt, from 1; ``chance`` is in [0, 1)."""
        # The exponent is bounded so that a large number is no overflow.
        whole = min(self.delay * self.factor ** min(number - 1, 64), self.max_delay)
        return whole * (1.0 - chance / 2.0)


NO_RETRIES = RetryPolicy()


def read_retries(raw: Any) -> RetryPolicy:
    """Return what ``step_retries`` says: a number, or a mapping. ConfigurationError names the key."""
    if raw is None:
        return NO_RETRIES
    if type(raw) is int:
        return RetryPolicy(limit=_limit(raw))
    if not isinstance(raw, Mapping):
        raise _wrong("step_retries", "a number, or a mapping", raw)
    for key in raw:
        if key not in _KEYS:
            near = did_you_mean(str(key), list(_KEYS))
            raise ConfigurationError(
                f"step_retries: there is no key {key!r}{near}", f"the keys are: {', '.join(_KEYS)}"
            )
    default = NO_RETRIES
    factor = raw.get("factor", default.factor)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor <= 100:
        raise _wrong("step_retries.factor", "a number from 1 to 100", factor)
    return RetryPolicy(
        limit=_limit(raw.get("limit", 1)),
        on=_on(raw.get("on", ())),
        delay=parse_duration(raw.get("delay", default.delay), "step_retries.delay"),
        factor=float(factor),
        max_delay=parse_duration(raw.get("max_delay", default.max_delay), "step_retries.max_delay"),
    )


def _limit(raw: Any) -> int:
    if type(raw) is not int or not 0 <= raw <= _MOST:
        raise _wrong("step_retries", f"a number from 0 to {_MOST}", raw)
    return raw


def _on(raw: Any) -> tuple[str | int, ...]:
    listed = [raw] if isinstance(raw, (str, int)) else raw
    if not isinstance(listed, (list, tuple)):
        raise _wrong("step_retries.on", "a list of reasons, exit codes and exceptions", raw)
    for item in listed:
        if type(item) is int and 0 < item < 256:
            continue
        if not isinstance(item, str) or not _EXCEPTION.fullmatch(item):
            raise _wrong("step_retries.on", f"{', '.join(REASONS)}, an exit code or an exception", item)
        if item.islower() and "." not in item and item not in REASONS:
            near = did_you_mean(item, list(REASONS))
            raise ConfigurationError(
                f"step_retries.on: {item!r} is no reason{near}",
                f"name {', '.join(REASONS)}, exit codes, or exceptions such as ConnectionError",
            )
    return tuple(listed)


def _wrong(key: str, expected: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f"{key}: expected {expected}, got {value!r}", f"correct {key}")
