"""What a run needs of this machine, checked one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dispatch.app import App
from dispatch.errors import DispatchError
from dispatch.units import format_size

ROOM_WANTED = 5 * 1024**3


@dataclass(frozen=True)
class Check:
    """One finding. ``needed`` is false for what only some runs need."""

    what: str
    ok: bool
    fact: str
    remedy: str = ""
    needed: bool = True


def check_all(app: App) -> Iterator[Check]:
    """Yield findings as they come; none of them raises.

    Where the settings say that all steps run here, engine and repository are nothing that a run needs.
    """
    contained = app.settings.executor.type != "local"
    yield _guard("engine", lambda: _engine(app), contained)
    yield _guard("git", lambda: _git(app), contained)
    yield _guard("workspace", lambda: _workspace(app))
    yield _disk("disk: cache", app.surroundings.cache)
    yield _guard("uv", lambda: _uv(app))
    yield _tool("mmdebstrap", "only to build a base image such as debian-python: apt-get install mmdebstrap")


def _guard(what: str, check: Callable[[], Check], needed: bool = True) -> Check:
    try:
        return check()
    except DispatchError as error:
        return Check(what, False, error.message, error.remedy, needed)
    except OSError as error:
        return Check(what, False, str(error), "mend what it names", needed)


def _engine(app: App) -> Check:
    from dispatch.engine.docker import DockerEngine

    engine = DockerEngine(app.door, uid=os.getuid(), gid=os.getgid())
    try:
        found = engine.capabilities()
    finally:
        engine.close()
    gpus = f", {len(found.gpus)} GPUs" if found.gpus else ""
    copies = f"; files are copied: {found.obstacle}" if found.obstacle else ""
    size = f"{found.cpus} CPUs, {format_size(found.memory)} of memory{gpus}"
    return Check("engine", True, f"{found.name} at {app.door.address}: {size}{copies}")


def _git(app: App) -> Check:
    from dispatch.source import Git, Repository

    repository = Repository.open(Path.cwd(), Git(app.surroundings.environ), app.surroundings.cache)
    return Check("git", True, f"repository {repository.root}")


def _workspace(app: App) -> Check:
    from dispatch.workspace.local import LocalWorkspace

    workspace = app.workspace
    if not isinstance(workspace, LocalWorkspace):
        return Check("workspace", True, workspace.url)
    place = next(place for place in (workspace.dir, *workspace.dir.parents) if place.exists())
    if not os.access(place, os.W_OK):
        return Check(
            "workspace", False, f"{place} cannot be written to", "change its owner, or name another workspace"
        )
    return Check("workspace", True, str(workspace.dir))


def _disk(what: str, directory: Path) -> Check:
    place = next(place for place in (directory, *directory.parents) if place.exists())
    free = shutil.disk_usage(place).free
    fact = f"{format_size(free)} free at {place}"
    return Check(what, free >= ROOM_WANTED, fact, f"make room: images want {format_size(ROOM_WANTED)}")


def _uv(app: App) -> Check:
    from dispatch.lock.uv import find_uv

    return Check("uv", True, str(find_uv(app.surroundings.environ)))


def _tool(name: str, remedy: str) -> Check:
    found = shutil.which(name)
    return Check(name, found is not None, found or "not installed", remedy, needed=False)
