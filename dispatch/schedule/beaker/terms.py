"""On what terms a job stands in Beaker's queue, as settings and steps say it.

Owns the spelling of priorities, and of the key ``beaker`` in ``step_metadata``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.units import parse_duration

KEY = "beaker"
PRIORITIES = ("low", "normal", "high", "urgent", "immediate")
# beaker-py 1 had it among the priorities, below all others.
_PREEMPTIBLE = "preemptible"
T = TypeVar("T")


@dataclass(frozen=True)
class Terms:
    """See :class:`dispatch.engine.base.Placement`; None and empty say nothing."""

    clusters: tuple[str, ...] = ()
    priority: str = ""
    preemptible: bool | None = None
    min_runtime: float | None = None
    budget: str = ""

    def over(self, others: Terms) -> Terms:
        """These, and where they say nothing, the others."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(others, **{name: value for name, value in said.items() if value not in (None, "", ())})


NO_TERMS = Terms()


def read_terms(raw: Any, at: str = "") -> Terms:
    """Read ``{clusters: […], priority: …, preemptible: …, min_runtime: 1h, budget: org/name}``.

    ``at`` names the mapping in errors. Raises ConfigurationError.
    """
    prefix = f"{at}: " if at else ""
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{prefix}expected keys with values, got {type(raw).__name__}")
    unknown = next((key for key in raw if key not in _READERS), None)
    if unknown is not None:
        near = did_you_mean(str(unknown), list(_READERS))
        fact = f"{prefix}there is no key {unknown!r}{near}"
        raise ConfigurationError(fact, f"use one of: {', '.join(_READERS)}")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if value is not None:
            try:
                found |= _READERS[key](value)
            except ConfigurationError as error:
                raise ConfigurationError(f"{prefix}{error.message}", error.remedy) from None
    if "preemptible" in raw and raw["preemptible"] is not None:
        found["preemptible"] = raw["preemptible"]
    return Terms(**found)


def terms_of(metadata: Mapping[str, Any], at: str = "step_metadata.beaker") -> Terms:
    """Read what a step's metadata say for Beaker. Raises ConfigurationError."""
    raw = metadata.get(KEY)
    return NO_TERMS if raw is None else read_terms(raw, at)


def priority_of(value: Any) -> Terms:
    """Read a priority: a name, or a member of beaker-py's enumeration, of version 1 or 2. None says nothing.

    :raises ConfigurationError: for anything else
    """
    if value is None or (type(value) is str and not value):
        return NO_TERMS
    name = value if type(value) is str else getattr(value, "name", value)
    word = name.casefold() if isinstance(name, str) else ""
    if word == _PREEMPTIBLE:
        return Terms(priority="low", preemptible=True)
    if word not in PRIORITIES:
        near = did_you_mean(word, list(PRIORITIES))
        raise ConfigurationError(f"priority: {value!r} is none{near}", f"use one of: {', '.join(PRIORITIES)}")
    return Terms(priority=word)


def clusters_of(value: Any) -> tuple[str, ...]:
    """Read the names of clusters: one or several, each a text or beaker-py's cluster.

    :raises ConfigurationError: for anything else
    """
    several = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    found = [_cluster(each) for each in several if several != [None]]
    return tuple(dict.fromkeys(found))


def _cluster(value: Any) -> str:
    organization, name = getattr(value, "organization_name", None), getattr(value, "name", None)
    if isinstance(organization, str) and isinstance(name, str) and name:
        return f"{organization}/{name}" if organization else name
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigurationError(f"clusters: {value!r} is no name of a cluster", "name it: ORG/NAME")
    return value


def _checked(key: str, kind: type, words: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not kind or value == "":
            raise ConfigurationError(f"{key}: expected {words}, got {value!r}", f"correct {key}")
        return {key: value}

    return read


def _priority(value: Any) -> dict[str, Any]:
    terms = priority_of(value)
    return {"priority": terms.priority} | ({"preemptible": True} if terms.preemptible else {})


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "clusters": lambda value: {"clusters": clusters_of(value)},
    "cluster": lambda value: {"clusters": clusters_of(value)},
    "priority": _priority,
    "preemptible": _checked("preemptible", bool, "true or false"),
    "min_runtime": lambda value: {"min_runtime": parse_duration(value, "min_runtime")},
    "budget": _checked("budget", str, "a name, ORG/NAME"),
}
