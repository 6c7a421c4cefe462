"""A working starting point in a user's directory: what `dispatch init` writes, and what to run next.

Owns which files there are; their text is in ``templates/init``. Refuses to overwrite: where one of them is
there, nothing is written at all. Lines of ``.gitignore`` are added to those that are there.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ConfigurationError, SourceError
from dispatch.render import render
from dispatch.settings import Surroundings, repository_root
from dispatch.source import Git, Repository

CONFIG = "experiment.yml"
IGNORE = ".gitignore"
_FILES = ("dispatch.yml", CONFIG, "steps.py")
_OF_IMAGE = ("requirements.in",)
# What a module of that name would be instead of ours.
_BESIDE = ("steps",)
_IGNORED = ("workspace/", "__pycache__/")


@dataclass(frozen=True)
class Start:
    """What is to be written: files by name, lines for ``.gitignore``, and the commands that come next."""

    directory: Path
    files: Mapping[str, str]
    ignored: tuple[str, ...]
    commands: tuple[str, ...]


def plan_start(directory: Path, here: Path, surroundings: Surroundings, *, image: bool) -> Start:
    """Decide what to write into ``directory`` (absolute; it may be missing) for a user who is in ``here``.

    ConfigurationError, with their names, where files are in the way.
    """
    names = (*_FILES, *(_OF_IMAGE if image else ()))
    taken = [name for name in (*names, *_BESIDE) if (directory / name).exists()]
    if taken or (directory.exists() and not directory.is_dir()):
        what = f"{directory}: has {', '.join(taken)} already" if taken else f"{directory}: is no directory"
        raise ConfigurationError(
            what, "nothing was written; name another directory: `dispatch init DIRECTORY`"
        )
    files = {name: render(f"init/{name}.j2", {"image": image}) for name in names}
    return Start(
        directory, files, _missing_lines(directory), _commands(directory, here, surroundings, image=image)
    )


def write_start(start: Start) -> None:
    """Write what was planned. A file that has come to be there meanwhile is a ConfigurationError."""
    start.directory.mkdir(parents=True, exist_ok=True)
    for name, text in start.files.items():
        try:
            with (start.directory / name).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise ConfigurationError(
                f"{start.directory / name}: is there already", "somebody else writes here: look at it"
            ) from None
    if start.ignored:
        path = start.directory / IGNORE
        before = path.read_text("utf-8") if path.exists() else ""
        gap = "" if not before or before.endswith("\n") else "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(gap + "".join(f"{line}\n" for line in start.ignored))


def _missing_lines(directory: Path) -> tuple[str, ...]:
    path = directory / IGNORE
    known = path.read_text("utf-8").split() if path.exists() else []
    return tuple(
        line
        for line in _IGNORED
        if not {line, line.rstrip("/"), f"/{line}", f"/{line.rstrip('/')}"} & set(known)
    )


def _commands(directory: Path, here: Path, surroundings: Surroundings, *, image: bool) -> tuple[str, ...]:
    """What makes it run: images need a commit to begin with, and a lock."""
    commands = [] if directory == here else [f"cd {shlex.quote(str(directory))}"]
    if image:
        if repository_root(directory) is None:
            commands.append("git init")
        if not _has_commit(directory, surroundings):
            commands.append("git add --all && git commit --message 'Begin'")
        commands += [f"dispatch lock {CONFIG}", f"dispatch build {CONFIG}"]
    return (*commands, f"dispatch run {CONFIG}", "dispatch result latest report")


def _has_commit(directory: Path, surroundings: Surroundings) -> bool:
    place = next(place for place in (directory, *directory.parents) if place.is_dir())
    try:
        Repository.open(place, Git(surroundings.environ), surroundings.cache)
    except SourceError:
        return False
    return True
