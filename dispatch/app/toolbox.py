"""Composes what images are made with and locks are resolved with on this machine.

Owns nothing but the choice of the parts; each is loaded when an image needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch._docker import Door
from dispatch.config.expansion import base_lock_command
from dispatch.environment import BeakerImage, CondaImage, DockerfileImage, Environment, PipImage
from dispatch.image.maker import Tools
from dispatch.image.ports import BeakerImages, ImageStore, SharedImages
from dispatch.image.saved import SavedImage
from dispatch.lock.apt import Apt
from dispatch.lock.model import DebianLock
from dispatch.lock.uv import Uv, find_uv
from dispatch.reporting import Reporter
from dispatch.settings import Surroundings

if TYPE_CHECKING:
    from dispatch.image.wheels import WheelMaker
    from dispatch.lock.rattler import Rattler
    from dispatch.lock.sdists import Sdists


@dataclass(frozen=True)
class Toolbox:
    """The tools of this machine; ``config`` is what a message's command names."""

    surroundings: Surroundings
    config: str

    def tools(
        self,
        door: Door,
        environments: Mapping[str, Environment],
        importer: Callable[[], BeakerImages],
        shared: SharedImages | None,
    ) -> Tools:
        """Return what the images of a catalogue are made with, in the engine behind ``door``."""
        from dispatch.app.dockerfiles import dockerfile_maker

        kinds = {type(each.declaration) for each in environments.values()}
        environ = self.surroundings.environ
        return Tools(
            store=door,
            runner=door,
            installer=self.uv(),
            rootfs=self._rootfs,
            user=f"{os.getuid()}:{os.getgid()}",
            importer=importer() if BeakerImage in kinds else None,
            conda=self._rattler() if CondaImage in kinds else None,
            dockerfile=dockerfile_maker(door, environ) if DockerfileImage in kinds else None,
            shared=shared,
            saved=partial(SavedImage, door),
            wheels=self._wheels(door) if any(map(_from_source, environments.values())) else None,
        )

    def without_engine(self, store: ImageStore, environments: Mapping[str, Environment]) -> Tools:
        """Return what images are made with that need no engine, in another store."""
        from dispatch.app.directory import NoEngine

        conda = any(isinstance(each.declaration, CondaImage) for each in environments.values())
        return Tools(
            store=store,
            runner=NoEngine(),
            installer=self.uv(),
            rootfs=self._rootfs,
            user="",
            conda=self._rattler() if conda else None,
        )

    def uv(self) -> Uv:
        """What resolves and installs packages of Python."""
        environ = self.surroundings.environ
        return Uv(find_uv(environ), environ, command=self._command)

    def sdists(self) -> Sdists:
        """What fetches packages that are built from source."""
        from dispatch.lock.sdists import Sdists

        return Sdists(self.surroundings.environ, self.surroundings.cache / "sdists", self._command)

    def apt(self) -> Apt:
        """What resolves packages of Debian."""
        return Apt(self.surroundings.environ, self.surroundings.apt_mirror)

    def _wheels(self, door: Door) -> WheelMaker:
        from dispatch.image.wheels import WheelMaker

        return WheelMaker(door, self.sdists(), self.uv(), self.surroundings.cache)

    @property
    def _command(self) -> str:
        return f"dispatch lock {self.config}".strip()

    def _rattler(self) -> Rattler:
        from dispatch.lock.channels import Channels
        from dispatch.lock.rattler import Rattler

        environ = self.surroundings.environ

        def addresses(channel: str) -> Sequence[str]:
            # A path is absolute in a lock that was read.
            return Channels.of(environ).addresses(channel, Path("/"))

        return Rattler(
            addresses, self.surroundings.cache / "conda" / "packages", environ, command=self._command
        )

    def _rootfs(self, name: str, lock: DebianLock, target: Path, report: Reporter) -> None:
        from dispatch.image.debian import DebianBuilder

        command, around = base_lock_command(name, self.config), self.surroundings
        builder = DebianBuilder(self.apt(), around.cache, around.environ, command=command)
        builder.build(name, lock, target, report)


def _from_source(environment: Environment) -> bool:
    return isinstance(environment.declaration, PipImage) and bool(environment.declaration.sdists)
