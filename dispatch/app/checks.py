"""What a run needs of this machine, checked one by one; ``config_checks`` adds what a configuration needs."""

from __future__ import annotations

import enum
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app import App
from dispatch.errors import ConfigurationError, DispatchError
from dispatch.units import format_size

if TYPE_CHECKING:
    from dispatch.app.source import SourceTree

ROOM_WANTED = 5 * 1024**3
ROOM_NEEDED = 256 * 1024**2
CONFIGURATION, MACHINE = 2, 3
# What builds a base image of nothing but packages.
BUILDER = "mmdebstrap"


class Level(enum.Enum):
    """What a finding means: a run would go well, or perhaps not, or not."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One finding. ``code`` is the exit code that a run would end with for a problem of its kind."""

    what: str
    level: Level
    fact: str
    remedy: str = ""
    code: int = MACHINE

    @property
    def short(self) -> Check:
        """The finding where nothing depends on it: a problem is a warning."""
        level = Level.WARNING if self.level is Level.PROBLEM else self.level
        return Check(self.what, level, self.fact, self.remedy, self.code)


def ok(what: str, fact: str) -> Check:
    """A finding that is well."""
    return Check(what, Level.OK, fact)


def warning(what: str, fact: str, remedy: str) -> Check:
    """A finding that a run survives."""
    return Check(what, Level.WARNING, fact, remedy)


def guarded(what: str, check: Callable[[], Check], needed: bool = True) -> Check:
    """Have an error be a finding, which is a problem only where the thing is ``needed``."""
    try:
        found = check()
    except DispatchError as error:
        code = CONFIGURATION if isinstance(error, ConfigurationError) else MACHINE
        found = Check(what, Level.PROBLEM, error.message, error.remedy, code)
    except OSError as error:
        found = Check(what, Level.PROBLEM, str(error), "mend what it names")
    return found if needed else found.short


def machine_checks(app: App, *, contained: bool) -> Iterator[Check]:
    """Yield findings about this machine as they come; none of them raises.

    Where nothing is ``contained``, engine and repository are nothing that a run needs.
    """
    yield ok("python", f"{platform.python_version()} at {sys.executable}")
    settings = app.settings.path
    yield ok("settings", str(settings) if settings else "no file: defaults hold")
    beaker = app.settings.executor.type == "beaker"
    if beaker:
        yield guarded("beaker", lambda: _beaker(app))
    contained_here = contained and not beaker
    engine = guarded("engine", lambda: _engine(app), contained_here)
    yield engine
    if engine.level is Level.OK:
        yield guarded("disk: engine", lambda: _engine_disk(app), contained_here)
    yield guarded("git", lambda: _git(app), contained)
    yield guarded("workspace", lambda: _workspace(app))
    yield guarded("disk: workspace", lambda: _workspace_disk(app))
    yield guarded("disk: cache", lambda: _disk("disk: cache", app.surroundings.cache))
    yield guarded("uv", lambda: _uv(app), needed=False)
    yield _tool(BUILDER, f"only to build a base image such as debian-python: apt-get install {BUILDER}")


def source_tree(app: App, directory: Path) -> SourceTree:
    """The repository around a directory, as a run would take it."""
    from dispatch.app.source import SourceTree
    from dispatch.source import Git
    from dispatch.workspace.local import LocalWorkspace

    workspace = app.workspace
    exclude = [workspace.dir] if isinstance(workspace, LocalWorkspace) else []
    return SourceTree(directory, [], exclude, Git(app.surroundings.environ), app.surroundings.cache)


def _engine(app: App) -> Check:
    from dispatch.engine.docker import DockerEngine

    engine = DockerEngine(app.door, uid=os.getuid(), gid=os.getgid())
    try:
        found = engine.capabilities()
    finally:
        engine.close()
    info = app.door.info()
    gpus = f", {len(found.gpus)} GPUs" if found.gpus else ""
    copies = f"; files are copied: {found.obstacle}" if found.obstacle else ""
    has = f"{found.cpus} CPUs, {format_size(found.memory)} of memory{gpus}{copies}"
    return ok("engine", f"{found.name} {info.get('ServerVersion', '')} at {app.door.address}: {has}")


def _beaker(app: App) -> Check:
    from dispatch.app.onbeaker.side import BeakerSide

    return ok("beaker", BeakerSide(app, None).reach())


def _engine_disk(app: App) -> Check:
    root = Path(str(app.door.info().get("DockerRootDir") or ""))
    if not root.is_dir():
        return ok("disk: engine", "not on this machine, or not to be seen by you")
    return _disk("disk: engine", root)


def _git(app: App) -> Check:
    tree = source_tree(app, Path.cwd())
    return ok("git", f"repository {tree.repository.root}")


def _workspace(app: App) -> Check:
    from dispatch.workspace.local import LocalWorkspace

    workspace = app.workspace
    if not isinstance(workspace, LocalWorkspace):
        return ok("workspace", f"{workspace.url}, {workspace.num_registered_runs()} runs")
    place = _existing(workspace.dir)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        fact = f"{place} cannot be written to"
        return Check("workspace", Level.PROBLEM, fact, "change its owner, or name another workspace")
    runs = len(workspace.registered_runs()) if workspace.dir.is_dir() else 0
    return ok("workspace", f"{workspace.dir}, {runs} runs")


def _workspace_disk(app: App) -> Check:
    from dispatch.workspace.local import LocalWorkspace

    workspace = app.workspace
    if not isinstance(workspace, LocalWorkspace):
        return ok("disk: workspace", "it has none of its own")
    return _disk("disk: workspace", workspace.dir)


def _disk(what: str, directory: Path) -> Check:
    place = _existing(directory)
    free = shutil.disk_usage(place).free
    fact = f"{format_size(free)} free at {place}"
    if free >= ROOM_WANTED:
        return ok(what, fact)
    level = Level.WARNING if free >= ROOM_NEEDED else Level.PROBLEM
    return Check(what, level, fact, f"make room: images want {format_size(ROOM_WANTED)}")


def _existing(directory: Path) -> Path:
    return next(place for place in (directory, *directory.parents) if place.exists())


def _uv(app: App) -> Check:
    from dispatch.lock.uv import find_uv

    return ok("uv", str(find_uv(app.surroundings.environ)))


def _tool(name: str, remedy: str) -> Check:
    found = shutil.which(name)
    return ok(name, found) if found is not None else warning(name, "not installed", remedy)
