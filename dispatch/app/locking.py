"""The locks of a configuration: renewing them, and saying which of them still fit.

Owns the order (what an image stands on comes first) and what a lock is held against. Checking writes nothing
and asks nobody: no index, no registry, no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app.committed import CommittedLocks, provided
from dispatch.environment import CondaImage, DebianImage, Environment, PipImage
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.lock.model import BaseFacts, Renewal, Upgrade
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch.lock.renewal import Tools


@dataclass(frozen=True)
class LockState:
    """A committed lock: of which image, and what is wrong with it (``""`` where it fits) and the way out."""

    image: str
    path: Path
    problem: str = ""
    remedy: str = ""


class Locking:
    """Locks of one configuration's images. ``tools`` and ``facts`` are asked only for a renewal."""

    def __init__(
        self,
        environments: Mapping[str, Environment],
        tools: Callable[[], Tools],
        facts: Callable[[Environment], BaseFacts | None],
        config: str,
        say: Reporter,
    ) -> None:
        self._environments = environments
        self._tools = tools
        self._facts = facts
        self._config = config
        self._say = say

    def renew(self, names: Iterable[str], upgrade: Upgrade) -> Iterator[Renewal]:
        """Resolve the named images anew, write their locks and yield each; bases first.

        One that cannot be resolved is in the way of those upon it, and of no other: what is wrong with such
        is raised at the end. Existing images have no lock.
        """
        from dispatch.lock.renewal import renew

        tools = self._tools()
        order = self._in_order(names)
        failed = _misdeclared(order)
        for environment in order:
            if environment.name in failed:
                continue
            if getattr(environment.declaration, "base", "") in failed:
                failed[environment.name] = failed[getattr(environment.declaration, "base", "")]
                continue
            self._say(f"{environment.name}: resolving")
            locks = CommittedLocks(self._config, self._environments)
            try:
                below = provided(environment, self._environments, locks)
                renewal = renew(environment, self._facts(environment), tools, upgrade, below)
            except ConfigurationError as error:
                failed[environment.name] = error
                continue
            if renewal is not None:
                yield renewal
        _raise(list(dict.fromkeys(failed.values())))

    def check(self, names: Iterable[str]) -> list[LockState]:
        """Say of the locks of the named images, and of what they stand on, whether they fit."""
        locks = CommittedLocks(self._config, self._environments)
        states = []
        for environment in self._in_order(self._with_bases(names)):
            path = _lock(environment)
            if path is not None:
                states.append(self._state(environment, path, locks))
        return states

    def packages(self) -> set[str]:
        """Normalised names of the packages that the present pip and conda locks hold, stale or not."""
        from dispatch.lock.conda import known_packages
        from dispatch.lock.pip import known_pins
        from dispatch.lock.requirements import normalise

        declarations = [each.declaration for each in self._environments.values()]
        found = {
            pin.name for each in declarations if isinstance(each, PipImage) for pin in known_pins(each.lock)
        }
        for each in declarations:
            if isinstance(each, CondaImage):
                found |= {normalise(package.name) for package in known_packages(each.lock)}
        return found

    def _state(self, environment: Environment, path: Path, locks: CommittedLocks) -> LockState:
        try:
            self._hold(environment, locks)
        except ConfigurationError as error:
            return LockState(environment.name, path, error.message, error.remedy)
        return LockState(environment.name, path)

    def _hold(self, environment: Environment, locks: CommittedLocks) -> None:
        """Read a lock and hold it against all that is known without asking; raise what is wrong."""
        from dispatch.lock.pip import read_pip

        if not isinstance(environment.declaration, PipImage):
            locks.of(environment)
            return
        read_pip(
            environment,
            self._known_facts(environment, locks),
            f"dispatch lock {self._config}".strip(),
            provided(environment, self._environments, locks),
        )

    def _known_facts(self, environment: Environment, locks: CommittedLocks) -> BaseFacts | None:
        """The facts of a base as its lock tells them; None for one that would have to be asked."""
        from dispatch.image.base import base_environment, base_facts

        assert isinstance(environment.declaration, PipImage)
        base = base_environment(environment, environment.declaration.base, self._environments)
        if not isinstance(base.declaration, (DebianImage, CondaImage)):
            return None
        return base_facts(base, locks, None, self._say)

    def _in_order(self, names: Iterable[str]) -> list[Environment]:
        """The named environments; what one stands on is before it, and bases with their own locks first."""
        wanted = set(names)
        found = [each for name, each in self._environments.items() if name in wanted]
        return sorted(found, key=lambda each: not isinstance(each.declaration, DebianImage))

    def _with_bases(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self._environments and name not in found:
                found.add(name)
                waiting.append(getattr(self._environments[name].declaration, "base", ""))
        return found


def _misdeclared(environments: Sequence[Environment]) -> dict[str, ConfigurationError]:
    """Return what is wrong with what pip environments ask for, by their names and those of their parts.

    It is looked for before anything is resolved: what is below such a pip section may take minutes.
    """
    from dispatch.config.expansion import declared_name
    from dispatch.lock.inputs import read_inputs

    wrong: dict[str, ConfigurationError] = {}
    for environment in environments:
        declaration = environment.declaration
        if isinstance(declaration, PipImage):
            try:
                read_inputs(declaration, "x86_64")
            except ConfigurationError as error:
                wrong[declared_name(environment.name)] = error
    return {each.name: wrong[owner] for each in environments if (owner := declared_name(each.name)) in wrong}


def _raise(errors: Sequence[ConfigurationError]) -> None:
    """Raise what went wrong, in one error if it was several things."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        told = "".join(f"\n  {each.message}\n    → {each.remedy}" for each in errors)
        raise ConfigurationError(f"{len(errors)} locks were not renewed:{told}", "mend each of them")


def refuse_unknown_packages(packages: Sequence[str], lockings: Iterable[Locking]) -> None:
    """Refuse to upgrade a package that no present lock holds: it would be passed over in silence."""
    known = {name for locking in lockings for name in locking.packages()}
    for name in packages:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise ConfigurationError(
                f"no lock holds the package {name!r}{hint}", "name one that a lock holds"
            )


def _lock(environment: Environment) -> Path | None:
    declaration = environment.declaration
    return declaration.lock if isinstance(declaration, (PipImage, CondaImage, DebianImage)) else None
