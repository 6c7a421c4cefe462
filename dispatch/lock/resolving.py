"""What a tool that resolves requirements is asked, and what it answers.

Owns the question as a value and the protocol that uv and pip-tools both satisfy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dispatch.errors import ConfigurationError
from dispatch.lock.model import NO_UPGRADE, PipPin, Target, Upgrade
from dispatch.lock.pins import parse_pins
from dispatch.lock.requirements import Requirements


@dataclass(frozen=True)
class Question:
    """Which packages meet ``requirements`` for ``target``.

    Versions in ``known`` are kept where they still fit, but for those that ``upgrade`` names. ``limits`` are
    constraints beyond those of the requirements: what the base provides, what the driver allows. ``sdists``
    are the packages that are taken from source; all others have to have a wheel.
    """

    requirements: Requirements
    target: Target
    known: tuple[PipPin, ...] = ()
    upgrade: Upgrade = NO_UPGRADE
    limits: tuple[str, ...] = ()
    sdists: tuple[str, ...] = ()

    @property
    def constraints(self) -> tuple[str, ...]:
        """All constraints."""
        return self.requirements.constraints + self.limits

    def write(self, directory: Path, options: tuple[str, ...] = ()) -> list[str]:
        """Write the question as files that both tools read, with lines of ``options`` in front.

        They are ``requirements.in`` and ``known.txt``, which the answer goes to. Returns the arguments that
        name any other.
        """
        lines = [*options, *self.requirements.lines]
        (directory / "requirements.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Without hashes: uv would take known ones over unseen, and a wrong one would stay for ever.
        versions = [f"{pin.name}=={pin.version}\n" for pin in self.known]
        (directory / "known.txt").write_text("".join(versions), encoding="utf-8")
        if not self.constraints:
            return []
        (directory / "constraints.txt").write_text("\n".join(self.constraints) + "\n", encoding="utf-8")
        return ["--constraint", "constraints.txt"]

    def answer(self, directory: Path, tool: str) -> tuple[PipPin, ...]:
        """Read what a tool wrote, sorted by name."""

        def unreadable(fact: str, line: int) -> ConfigurationError:
            said = f"{tool}'s answer cannot be read, line {line}: {fact}"
            return ConfigurationError(said, f"report it, with the version of {tool}")

        lines = (directory / "known.txt").read_text(encoding="utf-8").splitlines()
        pins = parse_pins(list(enumerate(lines, start=1)), unreadable)
        return tuple(sorted(pins, key=lambda pin: pin.name))


class Resolving(Protocol):
    """Resolves requirements to exact packages."""

    def compile(self, question: Question) -> tuple[PipPin, ...]:
        """Return the packages with all hashes of their releases, sorted by name.

        ConfigurationError where the requirements cannot be met, ImageError where the index does not answer.
        """
