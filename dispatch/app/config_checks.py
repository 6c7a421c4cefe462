"""What one configuration needs, checked one by one: whether a run of it would work, before it is tried.

Nothing is built, pulled, locked or run for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app import App, Overlay
from dispatch.app.checks import BUILDER, CONFIGURATION, Check, Level, guarded, ok, source_tree, warning
from dispatch.app.sides import Side, side_of
from dispatch.errors import ConfigurationError, DispatchError, ImageError, SourceError
from dispatch.image.plan import Action
from dispatch.plan import Place
from dispatch.plan.model import LOCAL
from dispatch.resources import StepResources
from dispatch.settings import SourceMode

if TYPE_CHECKING:
    from dispatch.app.source import SourceTree
    from dispatch.config import Config
    from dispatch.graph import StepNode

_SHORT = 12
_DOES = {Action.PULL: "is pulled", Action.FETCH: "is fetched"}


class ConfigChecks:
    """The findings about the configuration at ``path``. Reading it is the first of them."""

    def __init__(self, app: App, path: Path, overlay: Overlay) -> None:
        self._app = app
        self._path = path
        self._overlay = overlay
        self._config: Config | None = None
        self._side = side_of(app, None)

    def read(self) -> Check:
        """Read the configuration."""
        return guarded("config", self._read)

    @property
    def contained(self) -> bool:
        """Whether a step runs in a container; where nobody can tell, that is not the first thing to mend."""
        if self._config is None or self._app.settings.executor.type == LOCAL:
            return False
        return bool(self._names())

    def findings(self) -> Iterator[Check]:
        """Yield what the configuration needs; nothing where it could not be read. None of them raises."""
        if self._config is None:
            return
        if self.contained:
            for name in self._names():
                yield guarded(f"image {name}", partial(self._image, name))
        yield from self._source()
        yield from self._secrets()
        yield from self._mounts()
        yield from self._resources()

    def _read(self) -> Check:
        self._config = self._side.complete(self._app.config(self._path, self._overlay))
        return ok("config", f"{self._path}: {len(self._config.graph)} steps, {len(self._names())} images")

    def _names(self) -> tuple[str, ...]:
        assert self._config is not None
        return tuple(dict.fromkeys(name for name in self._config.images.values() if name is not None))

    def _image(self, name: str) -> Check:
        """Read the image's locks, and ask the engine for it."""
        assert self._config is not None
        plan = self._side.builds(self._app.images(self._config), [name])
        planned = plan.of(name)
        if planned.action is Action.PRESENT:
            return ok(f"image {name}", "is there")
        bases = [each for each in plan.images if each.action is Action.BUILD and not each.base]
        if bases and shutil.which(BUILDER) is None:
            raise ImageError(f"is to be built, and {BUILDER} is not installed", f"apt-get install {BUILDER}")
        does = _DOES.get(planned.action, "is built")
        return warning(
            f"image {name}", f"{does} by the first run: {planned.reason}", f"dispatch build {self._path}"
        )

    def _source(self) -> Iterator[Check]:
        assert self._config is not None
        tree = source_tree(self._app, self._config.directory)
        # Changes that may not run are refused wherever steps run; a repository only containers need.
        refuses = self._app.settings.allow_dirty is False
        found = guarded("source", lambda: self._state(tree))
        try:
            notices = tree.ref.notices
        except DispatchError:
            yield found if self.contained else found.short
            return
        yield found if self.contained or refuses else found.short
        for notice in notices:
            yield warning("source", notice, "see that no step needs it")
        yield guarded("source: remote", lambda: self._remote(tree), needed=True)

    def _state(self, tree: SourceTree) -> Check:
        ref = tree.ref
        if not ref.dirty:
            return ok("source", f"commit {ref.commit[:_SHORT]}, nothing changed since")
        fact = f"commit {ref.commit[:_SHORT]} with changes that are not committed"
        if self._app.settings.allow_dirty is False:
            raise SourceError(f"{fact}, and the settings say `allow_dirty: false`", "commit them")
        return ok("source", f"{fact}: a snapshot of them is what runs")

    def _remote(self, tree: SourceTree) -> Check:
        """Only steps that clone need a remote that has the commit."""
        what, clones = "source: remote", self._app.settings.source.mode is SourceMode.CLONE
        remotes = tree.provenance.remotes
        if not remotes:
            if clones:
                raise SourceError(
                    "there is no remote, and the settings say `source: clone`", "git remote add"
                )
            return ok(what, "none; none is needed")
        named = ", ".join(f"{name} {url}" for name, url in remotes.items())
        pushed = tree.repository.is_pushed(tree.ref.commit)
        if clones and not pushed:
            raise SourceError(
                f"{named}: no branch of it that is known here has the commit, which `source: clone` needs",
                "git push",
            )
        return ok(what, f"{named}: {'has the commit' if pushed else 'has not the commit; none is needed'}")

    def _secrets(self) -> Iterator[Check]:
        assert self._config is not None
        users: dict[str, str] = {}
        for step, node in self._config.graph.items():
            for use in node.options.secrets:
                users.setdefault(use.name, step)
        for name, step in users.items():
            source = self._app.settings.secrets.get(name)
            if source is not None:
                yield ok(f"secret {name}", f"comes from {source}")
            elif name in self._app.surroundings.environ:
                yield ok(f"secret {name}", "is in the environment")
            else:
                fact = f"step {step!r} is given it, and neither settings nor environment have it"
                yield Check(f"secret {name}", Level.PROBLEM, fact, f"export {name}", CONFIGURATION)

    def _mounts(self) -> Iterator[Check]:
        assert self._config is not None
        home, directory = self._app.surroundings.home, self._config.directory
        sources = {mount.source: "the settings" for mount in self._app.settings.mounts}
        for step, node in self._config.graph.items():
            if node.options.mounts and not (self.contained and self._config.images[step]):
                fact = f"step {step!r} runs on this machine without a container: nothing can be mounted"
                yield Check("mount", Level.PROBLEM, fact, "leave step_mounts out", CONFIGURATION)
                continue
            for use in node.options.mounts:
                path = home / use.source[2:] if use.source.startswith("~/") else directory / use.source
                sources.setdefault(path, f"step {step!r}")
        for path, user in sources.items():
            if path.exists():
                yield ok("mount", f"{path} is there")
            else:
                fact = f"{path} is not there; it is a mount of {user}"
                yield Check("mount", Level.PROBLEM, fact, "make it, or mend the path", CONFIGURATION)

    def _resources(self) -> Iterator[Check]:
        """What steps ask for, held against what the engine and this machine have when idle."""
        assert self._config is not None
        try:
            for step, node in self._config.graph.items():
                asked = node.options.resources
                if asked == StepResources():
                    continue
                here = self._config.images[step] is None or not self.contained or asked.machine == LOCAL
                place = Place.PROCESS if here else Place.CONTAINER
                yield guarded(f"step {step}", partial(_fits, self._side, place, node))
        finally:
            self._side.engines.close()


def _fits(side: Side, place: Place, node: StepNode) -> Check:
    try:
        side.fits(place, node)
    except DispatchError as error:
        raise ConfigurationError(error.message, error.remedy) from error
    wanted = ", ".join(f"{name} {value}" for name, value in node.options.resources.to_json().items())
    return ok(f"step {node.name}", f"there is room for it: {wanted}")
