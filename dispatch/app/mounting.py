"""What users mount into steps, from config and settings, as mounts of a job; or why that cannot be.

Owns what a written source means, which of two mounts of one target counts, and which ones are refused. What
a mount holds is no part of a step's identity.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.engine.base import Mount
from dispatch.errors import ConfigurationError
from dispatch.location import HostPath, SharedPath
from dispatch.plan import Place, PlannedStep, RunPlan, Standing
from dispatch.settings import Base, MountSetting, Settings
from dispatch.workspace.base import Workspace
from dispatch.workspace.local import LocalWorkspace

_NAMED = 3


@dataclass(frozen=True)
class Mounting:
    """Turns what is written into mounts.

    Sources of a config are relative to ``directory``, and those with ``~/`` to ``home``. With ``here`` the
    engine sees this machine's files; otherwise sources are paths of its own host, which nobody can check.
    """

    settings: Settings
    directory: Path
    home: Path
    workspace: Workspace
    here: bool

    def of(self, plan: RunPlan) -> Mapping[str, tuple[Mount, ...]]:
        """Return the mounts of each step that is to run in a container.

        :raises ConfigurationError: for a source that is not there or may not be written, and for a step that
            has no container to mount anything in
        """
        return {step.node.name: self._of_step(step) for step in plan.standing(Standing.RUN)}

    def _of_step(self, step: PlannedStep) -> tuple[Mount, ...]:
        own = step.node.options.mounts
        where = f"step {step.node.name!r}: step_mounts"
        if step.place is Place.PROCESS:
            if own:
                raise ConfigurationError(
                    f"{where}: it runs on this machine without a container, and nothing can be mounted",
                    "leave them out, or name an image with `step_image:`",
                )
            return ()
        base = Base(self.directory, self.home)
        chosen = {mount.target: (mount, f"{self.settings.path}: mounts") for mount in self.settings.mounts}
        for use in own:
            chosen[use.target] = (MountSetting(base.resolve(use.source), use.target, use.read_only), where)
        return tuple(self._checked(mount, said) for mount, said in chosen.values())

    def _checked(self, mount: MountSetting, where: str) -> Mount:
        if not self.here:
            source = Path(os.path.normpath(mount.source))
            return Mount(SharedPath(source), mount.target, mount.read_only)
        if not _may_be_there(mount.source):
            make = f"`mkdir -p {shlex.quote(str(mount.source))}`"
            remedy = f"name a path that is there; {make} makes it" if mount.read_only else make
            raise ConfigurationError(f"{where}: {mount.source} is not there", remedy)
        # As the engine would find it: `..` after a link means what the system says.
        real = Path(os.path.realpath(mount.source))
        if not mount.read_only:
            self._refuse_workspace(real, mount, where)
        return Mount(HostPath(real), mount.target, mount.read_only)

    def _refuse_workspace(self, real: Path, mount: MountSetting, where: str) -> None:
        if not isinstance(self.workspace, LocalWorkspace):
            return
        kept = Path(os.path.realpath(self.workspace.dir))
        if real.is_relative_to(kept):
            raise ConfigurationError(
                f"{where}: {mount.source} lies in the workspace, where steps must not write",
                "mount it with `read_only: true`, or another directory",
            )


def without_container(plan: RunPlan) -> str:
    """Name the steps that are to run where nothing can be mounted; empty if there are none."""
    names = [repr(step.node.name) for step in plan.standing(Standing.RUN) if step.place is Place.PROCESS]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _may_be_there(path: Path) -> bool:
    """Whether a path exists, or lies where only the engine may look."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
