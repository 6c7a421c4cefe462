"""The composition root: builds the parts for one command from settings and surroundings.

Owns which implementation stands behind which protocol. Reads no file and no environment variable itself,
prints nothing, and decides nothing that a part could decide.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import assets
from dispatch.settings import (
    Base,
    RegistrySetting,
    Settings,
    Surroundings,
    WorkspaceSetting,
    find_settings,
    parse_registry,
    parse_workspace,
    read_environment,
)

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor
    from dispatch._docker import Door
    from dispatch._docker.daemon import EngineSetup
    from dispatch.app.images import Doors, Images
    from dispatch.app.locking import LockState
    from dispatch.app.pushing import Pushing
    from dispatch.app.records import Result, RunReport, RunRow
    from dispatch.config import Config
    from dispatch.image.ports import SharedImages
    from dispatch.image.shipping import Shipping
    from dispatch.lock.model import Renewal, Upgrade
    from dispatch.reporting import Reporter
    from dispatch.workspace.base import Workspace


@dataclass(frozen=True)
class Overlay:
    """What the command line lays over a configuration: JSON or Jsonnet to merge, Jsonnet's variables."""

    overrides: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


NO_OVERLAY = Overlay()


class App:
    """What the commands call. Constructing it does nothing; :meth:`open` reads the settings."""

    def __init__(
        self,
        settings: Settings,
        surroundings: Surroundings,
        workspace: str | Workspace | None,
        here: Path,
        say: Reporter,
    ):
        self.settings = settings
        self.surroundings = surroundings
        self._workspace = workspace
        self._here = here
        self.say = say

    @classmethod
    def open(cls, here: Path, workspace: str | None, say: Reporter, settings: Path | None = None) -> App:
        """Read environment and settings as they hold in ``here``, or the settings in the file ``settings``.

        A relative ``workspace`` or ``settings``, given by hand, is taken from there, too.
        """
        surroundings = read_environment()
        found = find_settings(here, surroundings, explicit=settings)
        return cls(found, surroundings, workspace, here, say)

    @cached_property
    def door(self) -> Door:
        """The engine of this machine; nothing is asked of it yet."""
        from dispatch._docker import Door, engine_address

        return Door(engine_address(self.surroundings.environ), self.surroundings.cache)

    @cached_property
    def beaker(self) -> BeakerDoor:
        """Beaker at the workspace that the settings name; nothing is asked of it yet."""
        from dispatch.app.beakerdoor import door_of

        return door_of(self.settings, self.workspace)

    def close_beaker(self) -> None:
        """Close the connections to Beaker, where they are not the workspace's, too."""
        door = self.__dict__.get("beaker")
        kept = getattr(getattr(self.workspace, "site", None), "door", None)
        if door is not None and door is not kept:
            door.close()

    @property
    def _doors(self) -> Doors:
        from dispatch.app.images import Doors

        setting = self.registry
        registry = (lambda: self.shared(setting)) if setting is not None else None
        return Doors(lambda: self.door, lambda: self.beaker, registry)

    @property
    def registry(self) -> RegistrySetting | None:
        """The registry that the environment names, else the settings; None where neither does."""
        named = self.surroundings.registry
        return self._registry_at(named) if named is not None else self.settings.registry

    def _registry_at(self, address: str) -> RegistrySetting:
        """The registry of an address; where the settings name it, too, it is trusted as they say."""
        setting, given = self.settings.registry, parse_registry(address)
        return setting if setting is not None and setting.address == given.address else given

    def shared(self, setting: RegistrySetting) -> SharedImages:
        """The images that are shared in a registry; nothing is asked of it yet."""
        from dispatch.image.sharing import Sharing, place_of

        place = place_of(setting.address)
        return Sharing(self._shipping(place.host, setting), place, self.door, self.surroundings.cache)

    def _shipping(self, host: str, setting: RegistrySetting | None = None) -> Shipping:
        """What speaks to the registry at a host; one that the settings name is trusted as they say."""
        from dispatch._registry import RegistryDoor, docker_logins, way_to
        from dispatch.image.shipping import Shipping

        named = self.settings.registry
        if setting is None and named is not None and named.address.partition("/")[0] == host:
            setting = named
        trust = setting or RegistrySetting(host)
        around = self.surroundings
        way = way_to(host, around.environ, around.home, trust.insecure, trust.authority)
        door = RegistryDoor(host, docker_logins(around.environ, around.home), way)
        return Shipping(door, around.cache)

    def images_in(self, root: Path, config: Config) -> Images:
        """The images of a configuration in a directory, for which no engine is asked."""
        from dispatch.app.directory import Fetching, without_engine
        from dispatch.app.images import Doors, Images
        from dispatch.image.ocilayout import OciLayout

        environments = without_engine(config.environments, config.names, root)
        if environments != dict(config.environments):
            self.say("bytecode is left out: only an engine can compile it")
        layout = OciLayout(root, Fetching(self._shipping))
        doors = Doors(lambda: self.door, directory=layout)
        return Images(environments, self.surroundings, doors, config.renewal or config.path.name, self.say)

    def pushing(self, images: Images, address: str) -> Pushing:
        """The images of a configuration in the registry at an address that was given by hand."""
        from dispatch.app.pushing import Pushing

        return Pushing(images, self.shared(self._registry_at(address)), self.say)

    def engine_setup(self) -> EngineSetup:
        """What sets an engine up where none answers."""
        from dispatch._docker.daemon import EngineSetup
        from dispatch._docker.machine import LinuxMachine

        return EngineSetup(
            self.door, self.surroundings.state, LinuxMachine(self.surroundings.environ), self.say
        )

    @property
    def workspace_setting(self) -> WorkspaceSetting:
        """Which workspace is named by hand, else by the settings. Nobody is asked whether it is there."""
        if isinstance(self._workspace, str):
            return parse_workspace(self._workspace, Base(self._here, self.surroundings.home))
        return self.settings.workspace

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace given by hand or by a program, else that of the settings.

        One on Beaker is asked for, so that a mistake is told at once.
        """
        from dispatch.workspace.base import Workspace
        from dispatch.workspace.local import LocalWorkspace

        if isinstance(self._workspace, Workspace):
            return self._workspace
        setting = self.workspace_setting
        if setting.type == "local" and setting.dir is not None:
            trusted = setting in self.settings.trusted_workspaces
            shared = any(setting.dir.is_relative_to(drive) for drive in self.settings.shared_dirs)
            return LocalWorkspace(setting.dir, trusted=trusted, shared=shared)
        if setting.type == "beaker":
            from dispatch.app.beakerdoor import workspace_on_beaker

            return workspace_on_beaker(setting, self.settings, self.surroundings)
        return Workspace.from_url(setting.url)

    def config(self, path: Path, overlay: Overlay = NO_OVERLAY, *, unused: bool = False) -> Config:
        """Read a configuration, with what is laid over it; with ``unused``, images that no step uses, too."""
        from dispatch.config import load

        return load(
            path.absolute(),
            self.settings,
            assets.images(),
            overrides=overlay.overrides,
            variables=overlay.variables,
            unused=unused,
        )

    def image_config(self, path: Path, overlay: Overlay = NO_OVERLAY, *, unused: bool = False) -> Config:
        """Read a configuration, or the folder of an image as one without steps; see :meth:`config`."""
        from dispatch.config import is_folder, load_folder

        if not is_folder(path):
            return self.config(path, overlay, unused=unused)
        absolute = Path(os.path.normpath(path.absolute()))
        found = load_folder(
            absolute,
            self.settings,
            assets.images(),
            overrides=overlay.overrides,
            variables=overlay.variables,
        )
        return replace(found, renewal=str(path))

    def images(self, config: Config) -> Images:
        """The images of a configuration."""
        from dispatch.app.images import Images

        renewal = config.renewal or config.path.name
        return Images(config.environments, self.surroundings, self._doors, renewal, self.say)

    def named_images(self, names: Sequence[str], packaged: Path) -> Images:
        """The images of these names in ``images/``, the settings or the folder ``packaged``."""
        from dispatch.app.images import Images
        from dispatch.config import find_images

        environments = find_images(names, self._here, self.settings, packaged)
        return Images(environments, self.surroundings, self._doors, "", self.say)

    def lock(
        self,
        paths: Sequence[Path],
        names: Iterable[str],
        upgrade: Upgrade,
        overlay: Overlay = NO_OVERLAY,
    ) -> Iterator[Renewal]:
        """Renew the locks of the named images, yielding each that is done; without names, of all but bases
        of the configurations. What cannot be renewed is raised when all others are."""
        chosen = self._chosen(paths, names, overlay)
        if upgrade.packages:
            from dispatch.app.locking import refuse_unknown_packages

            refuse_unknown_packages(upgrade.packages, [images.locking for images, _ in chosen])
        for images, own in chosen:
            yield from images.locking.renew(own, upgrade)

    def pin(
        self, paths: Sequence[Path], names: Iterable[str], upgrade: bool, overlay: Overlay = NO_OVERLAY
    ) -> Renewal:
        """Fix what configurations and named images have of registries to the digests they have there now."""
        from dispatch.app.pinning import Pinning, Registries
        from dispatch.config.pinned import read_pins, refuse_without_folder, unpinned
        from dispatch.settings import repository_root

        root = repository_root(paths[0].absolute().parent if paths else self._here)
        path = refuse_without_folder(root)
        known = read_pins([path.parent, assets.images()])
        chosen = self._chosen(paths, names, overlay)
        found = [unpinned(each, known) for images, _ in chosen for each in images.environments.values()]
        ask = Registries(self.surroundings, self.registry)
        return Pinning(path, ask, self.say).renew([each for each in found if each], upgrade)

    def check_locks(
        self, paths: Sequence[Path], names: Iterable[str], overlay: Overlay = NO_OVERLAY
    ) -> list[LockState]:
        """Say of the same locks, and those of their bases, whether they fit; asks and writes nothing."""
        chosen = self._chosen(paths, names, overlay)
        found = [state for images, own in chosen for state in images.locking.check(own)]
        return list({state.path: state for state in found}.values())

    def _chosen(
        self, paths: Sequence[Path], names: Iterable[str], overlay: Overlay
    ) -> list[tuple[Images, list[str]]]:
        """The images of each configuration, with the names of those whose locks are meant."""
        from dispatch.app.images import Images
        from dispatch.config import find_images
        from dispatch.config.expansion import declared_name

        wanted = tuple(names)
        found = []
        for path in paths:
            config = self.image_config(path, overlay, unused=True)
            found.append((self.images(config), config.lockable(wanted)))
        if not paths:
            environments = find_images(wanted, self._here, self.settings, assets.images())
            chosen = [name for name in environments if name in wanted or declared_name(name) in wanted]
            renewal = " ".join(f"--image {name}" for name in wanted)
            images = Images(environments, self.surroundings, self._doors, renewal, self.say)
            found.append((images, chosen))
        return found

    def runs(self, limit: int) -> list[RunRow]:
        """The newest runs of the workspace."""
        from dispatch.app.records import list_runs

        return list_runs(self.workspace, limit)

    def show(self, run: str) -> RunReport:
        """A run with its steps."""
        from dispatch.app.records import show

        return show(self.workspace, run)

    def result(self, run: str, step: str) -> Result:
        """The result of a step of a run."""
        from dispatch.app.records import result

        return result(self.workspace, run, step)

    def log(self, run: str, step: str) -> Path:
        """The log of a step of a run."""
        from dispatch.app.records import log

        return log(self.workspace, run, step)
