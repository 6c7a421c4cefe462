"""Faults on demand: which request is to go wrong, how, and how often.

Owns the rules and their counts; ``rpc.faulty`` and ``rest.faulty`` make what they ask for happen, around
everything else, so that nothing that answers requests knows of them. There are no faults but those that were
asked for, and nobody can ask unless ``control`` is on.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from dispatch.beakerd.problems import invalid

LONGEST = 24 * 3600.0


class Protocol(Enum):
    """Of which the request is; rules name it before a colon."""

    RPC = "rpc"
    REST = "rest"


RPC, REST = Protocol.RPC, Protocol.REST


class Kind(Enum):
    """What goes wrong, and in which protocols it can.

    ``latency``: the answer begins ``seconds`` late; other faults may come on top. All others wait for
    ``seconds``, too, and in a stream of messages let pass what comes until then.

    ``drop``: the connection is closed without an answer, nothing was done. ``lose``: it was done, and the
    connection is closed all the same. ``unavailable``: UNAVAILABLE, 503. ``429``: RESOURCE_EXHAUSTED, 429.
    ``500``: INTERNAL, 500. ``reset``: INTERNAL with RST_STREAM, as a proxy ends long streams. ``conflict``:
    409 with the text that public clients repeat. ``truncate``: half of the body under its whole length.
    ``wrong-digest``: another digest in headers or listed files. ``corrupt``: one byte of the body is another.
    """

    LATENCY = ("latency", (RPC, REST))
    DROP = ("drop", (RPC, REST))
    LOSE = ("lose", (RPC, REST))
    UNAVAILABLE = ("unavailable", (RPC, REST))
    TOO_MANY = ("429", (RPC, REST))
    SERVER_ERROR = ("500", (RPC, REST))
    RESET = ("reset", (RPC,))
    CONFLICT = ("conflict", (REST,))
    TRUNCATE = ("truncate", (REST,))
    WRONG_DIGEST = ("wrong-digest", (RPC, REST))
    CORRUPT = ("corrupt", (REST,))

    def __init__(self, word: str, protocols: tuple[Protocol, ...]):
        self.word = word
        self.protocols = protocols


@dataclass(frozen=True)
class Rule:
    """Which requests go wrong: those whose ``rpc:Method`` or ``rest:VERB /path`` the glob ``on`` fits, of
    ``user`` if one is named. The first ``after`` of them do not, nor more than ``times``, and of the rest as
    many as ``probability`` says, drawn from ``seed``. ``seconds``: see :class:`Kind`.
    """

    on: str
    kind: Kind
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    seconds: float = 0.0
    user: str | None = None


@dataclass
class _Active:
    rule: Rule
    chance: random.Random
    seen: int = 0
    hits: int = 0


@dataclass(frozen=True)
class Strike:
    """What becomes of one request: it waits for ``latency``, then ``kind`` happens after ``seconds``."""

    latency: float = 0.0
    kind: Kind | None = None
    seconds: float = 0.0
    rule: str = ""


NOTHING = Strike()


@dataclass
class Faults:
    """The rules that hold. May be used by any thread."""

    _rules: dict[str, _Active] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: int = 0

    def add(self, rule: Rule) -> str:
        """Let a rule hold from now on, behind those that hold already, and return its id."""
        with self._lock:
            self._made += 1
            name = str(self._made)
            self._rules[name] = _Active(rule, random.Random(rule.seed))
        return name

    def remove(self, name: str) -> bool:
        """End a rule; False where there is none."""
        with self._lock:
            return self._rules.pop(name, None) is not None

    def clear(self) -> None:
        """End all of them."""
        with self._lock:
            self._rules.clear()

    def report(self) -> list[dict[str, Any]]:
        """Each rule, and how many requests it fitted and struck."""
        with self._lock:
            return [
                {"id": name, **_written(each.rule), "seen": each.seen, "hits": each.hits}
                for name, each in self._rules.items()
            ]

    def strike(self, protocol: Protocol, request: str, user: Callable[[], str | None]) -> Strike:
        """Say what becomes of a request. The first rule that is no latency is the last that is asked.

        ``user`` finds out who asks, where a rule wants to know it.
        """
        if not self._rules:
            return NOTHING
        what, who = f"{protocol.value}:{request}", None
        if any(each.rule.user is not None for each in list(self._rules.values())):
            who = user()
        latency = 0.0
        with self._lock:
            for name, each in self._rules.items():
                rule = each.rule
                if protocol not in rule.kind.protocols or not fnmatchcase(what, rule.on):
                    continue
                if rule.user is not None and rule.user != who:
                    continue
                if not _struck(each):
                    continue
                if rule.kind is not Kind.LATENCY:
                    return Strike(latency, rule.kind, rule.seconds, name)
                latency += rule.seconds
        return Strike(latency)

    def missed(self, strike: Strike) -> None:
        """The request had nothing that the strike could spoil: it does not count."""
        with self._lock:
            if strike.rule in self._rules:
                self._rules[strike.rule].hits -= 1


def _struck(active: _Active) -> bool:
    rule = active.rule
    active.seen += 1
    if active.seen <= rule.after or (rule.times is not None and active.hits >= rule.times):
        return False
    # One is drawn for each request, so that the same seed strikes the same ones.
    if active.chance.random() >= rule.probability:
        return False
    active.hits += 1
    return True


def parse_rule(value: Mapping[str, Any]) -> Rule:
    """A rule from JSON.

    :raises Problem: INVALID, for one that is none, or could never strike
    """
    unknown = sorted(value.keys() - {each.name for each in fields(Rule)})
    if unknown:
        raise invalid(f"{', '.join(unknown)}: a fault has no such field")
    kind = next((each for each in Kind if each.word == str(value.get("kind"))), None)
    if kind is None:
        raise invalid(f"kind: {value.get('kind')!r} is none of {', '.join(each.word for each in Kind)}")
    on = value.get("on")
    if not isinstance(on, str) or not on:
        raise invalid("on: this is no pattern such as rpc:GetJob, rest:PUT /datasets/*, or *")
    named = next((each for each in Protocol if on.startswith(f"{each.value}:")), None)
    if named is None and not on.startswith("*"):
        raise invalid(f"on: {on!r} begins neither with rpc: nor with rest: nor with *")
    if named is not None and named not in kind.protocols:
        raise invalid(f"kind: {kind.word} cannot happen to {named.value}")
    user = value.get("user")
    if user is not None and not isinstance(user, str):
        raise invalid(f"user: {user!r} is no name")
    times = value.get("times")
    return Rule(
        on=on,
        kind=kind,
        times=None if times is None else int(_number(value, "times", whole=True)),
        after=int(_number(value, "after", whole=True)),
        probability=_number(value, "probability", 1.0, largest=1.0),
        seed=int(_number(value, "seed", whole=True)),
        seconds=_number(value, "seconds", largest=LONGEST),
        user=user,
    )


def _number(
    value: Mapping[str, Any], name: str, default: float = 0, whole: bool = False, largest: float = 2.0**53
) -> float:
    found = value.get(name, default)
    right = isinstance(found, int if whole else (int, float)) and not isinstance(found, bool)
    if not right or not 0 <= found <= largest:
        raise invalid(f"{name}: {found!r} is no {'whole ' if whole else ''}number from 0 to {largest:g}")
    return float(found)


def _written(rule: Rule) -> dict[str, Any]:
    return {**asdict(rule), "kind": rule.kind.word}
