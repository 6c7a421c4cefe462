"""Finds declarations of images by name.

Owns the order of lookup: the configuration's ``images:``, the settings' ``images:``,
``images/<name>/image.yml`` of the user's repository, then those that ship with the package. A folder is
looked into only for a name that is used. Owns, too, what holds over all images of a configuration: bases are
found, and no lock has two owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os.path import normpath
from pathlib import Path

from dispatch.config.expansion import declared_name, expand
from dispatch.config.pinned import pinned, read_pins
from dispatch.environment import (
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    PipImage,
)
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.document import read_document
from dispatch.settings.images import IMAGE_FILE, NAME
from dispatch.settings.matrix import read_declared
from dispatch.settings.section import Section


class Catalogue:
    """Entries that files declare (the first mapping wins); behind them, folders of ``<name>/image.yml``."""

    def __init__(self, declared: Sequence[Mapping[str, Environment]], folders: Sequence[Path]) -> None:
        self._declared = tuple(declared)
        self._folders = tuple(folders)

    @cached_property
    def pins(self) -> Mapping[str, str]:
        """The digests that references are fixed to."""
        return read_pins(self._folders)

    def find(self, name: str) -> Environment | None:
        """Return the declaration of ``name``, None if there is none.

        Raises ConfigurationError for a declaration that is wrong.
        """
        for entries in self._declared:
            if name in entries:
                return entries[name]
        # The name becomes a path here: only what cannot leave the folder gets that far.
        if not NAME.fullmatch(name):
            return None
        for folder in self._folders:
            for stem in _stems(name):
                path = folder / stem / IMAGE_FILE
                if path.is_file():
                    declared = read_declared(Section.of(read_document(path)), stem)
                    if name in declared:
                        return declared[name]
                    if stem == name:
                        fact = f"{path}: {name!r} stands for several images"
                        raise ConfigurationError(fact, f"name one of them: {', '.join(declared)}")
        return None

    def known(self) -> list[str]:
        """All names, sorted; for messages."""
        names = {name for entries in self._declared for name in entries}
        for folder in self._folders:
            names.update(path.parent.name for path in folder.glob(f"*/{IMAGE_FILE}"))
        return sorted(names)

    def unknown(self, name: str, who: str) -> ConfigurationError:
        """The error for a name that ``who`` uses and nobody declares."""
        known = self.known()
        fact = f"{who}: no image is named {name!r}{did_you_mean(name, known)}"
        if is_reference(name):
            return ConfigurationError(
                fact, f"declare it: `images: {{NAME: {{docker: {name}}}}}`, and use NAME"
            )
        places = ", ".join(
            str(folder / name / IMAGE_FILE) for folder in self._folders if NAME.fullmatch(name)
        )
        remedy = f"declare it under `images:`; looked there and for {places}" if places else "mend the name"
        return ConfigurationError(f"{fact}\n  known: {', '.join(known) or 'none'}", remedy)


def _stems(name: str) -> Iterator[str]:
    """Yield the names of folders that can declare an image: its own, then those of a matrix it may be of."""
    while name:
        yield name
        name = name.rpartition("-")[0]


def is_reference(name: str) -> bool:
    """Whether a name that nobody declares looks like a Docker reference."""
    return any(sign in name for sign in ":/@")


def collect(catalogue: Catalogue, used: Iterable[tuple[str, str]]) -> dict[str, Environment]:
    """Return the environments of ``used`` (pairs of image and who uses it) and of all their bases.

    A base comes before what is built on it, and what a declaration implies is there as images of its own
    (see ``expansion``). A base that is no name of the catalogue but looks like a reference (it has ``:``,
    ``/`` or ``@``) is a ``docker`` image under that name.
    """
    found: dict[str, Environment] = {}
    for name, who in used:
        if name not in found:
            environment = catalogue.find(declared_name(name))
            if environment is None:
                raise catalogue.unknown(name, who)
            _add(catalogue, found, environment, ())
            if name not in found:
                raise catalogue.unknown(name, who)
    for environment in found.values():
        _check_chain(found, environment)
    _check_locks(catalogue, found.values())
    return found


def _add(
    catalogue: Catalogue, found: dict[str, Environment], environment: Environment, above: tuple[str, ...]
) -> None:
    if isinstance(environment.declaration, DockerImage):
        environment = pinned(environment, catalogue.pins)
    name, declaration = environment.name, environment.declaration
    _check_file(environment)
    base = None
    if isinstance(declaration, (PipImage, CondaImage, DockerfileImage)) and declaration.base:
        if declaration.base not in found:
            path = (*above, name)
            below = _base(catalogue, environment, declaration.base)
            if below.name in path:
                circle = " → ".join((*path[path.index(below.name) :], below.name))
                fact = f"{environment.origin}: an image is its own base: {circle}"
                raise ConfigurationError(fact, "give one of them another `base:`")
            _add(catalogue, found, below, path)
        base = found[declaration.base].declaration
    found.update((each.name, each) for each in expand(environment, base))


def _check_file(environment: Environment) -> None:
    """Hold that what a declaration is made from is there."""
    declaration = environment.declaration
    if isinstance(declaration, PipImage):
        file: Path | None = declaration.requirements
    elif isinstance(declaration, (CondaImage, DockerfileImage)):
        file = declaration.file
    else:
        return
    what = f"{environment.origin}: image {environment.name!r}:"
    if file is not None and not file.is_file():
        remedy = f"create it, or mend the path after `{declaration.kind.value}:`"
        raise ConfigurationError(f"{what} the file {file} does not exist", remedy)
    for copied in declaration.more.copy:
        if not copied.source.exists():
            fact = f"{what} {copied.source}, which is to be copied, does not exist"
            raise ConfigurationError(fact, "create it, or mend the path after `source:`")
    context = declaration.context if isinstance(declaration, DockerfileImage) else None
    if context is not None and not context.is_dir():
        raise ConfigurationError(f"{what} {context} is no directory", "mend the path after `context:`")


def _base(catalogue: Catalogue, environment: Environment, name: str) -> Environment:
    base = catalogue.find(name)
    if base is None and is_reference(name):
        return Environment(name, DockerImage(name), environment.origin)
    if base is None:
        raise catalogue.unknown(name, f"{environment.origin}: base of image {environment.name!r}")
    return base


def _check_chain(found: Mapping[str, Environment], environment: Environment) -> None:
    """Refuse packages upon packages of a kind that lie in the same place, whatever stands between them."""
    declaration = environment.declaration
    if not isinstance(declaration, (PipImage, CondaImage)):
        return
    hidden = (PipImage,) if isinstance(declaration, PipImage) else (PipImage, CondaImage)
    name = declaration.base
    while name:
        below = found[name].declaration
        if isinstance(below, hidden):
            own, other = declared_name(environment.name), declared_name(name)
            kind = below.kind.value
            fact = (
                f"{environment.origin}: image {own!r} stands on {other!r}, which has {kind} packages itself"
            )
            raise ConfigurationError(fact, "name what that one stands on, and ask for the packages of both")
        name = getattr(below, "base", "")


def _check_locks(catalogue: Catalogue, environments: Iterable[Environment]) -> None:
    """Refuse two environments that would write different locks into one file."""
    owners: dict[Path, Environment] = {}
    for environment in environments:
        declaration = environment.declaration
        if not isinstance(declaration, (PipImage, CondaImage, DebianImage)):
            continue
        lock = Path(normpath(declaration.lock))
        owner = owners.setdefault(lock, environment)
        if _asked(catalogue, owner) != _asked(catalogue, environment):
            fact = f"images {owner.name!r} and {environment.name!r} differ but have one lock, {lock}"
            raise ConfigurationError(f"{environment.origin}: {fact}", "give one of them a `lock:` of its own")


def _asked(catalogue: Catalogue, environment: Environment) -> tuple[object, ...]:
    """What a lock answers; ``bytecode``, ``env``, ``copy`` and ``user`` change the image, never the lock."""
    declaration = environment.declaration
    if isinstance(declaration, DebianImage):
        asked = (declaration.suites, declaration.packages, declaration.architecture, declaration.epoch)
        return (declaration.kind, *asked, declaration.python)
    assert isinstance(declaration, (PipImage, CondaImage))
    target = (declaration.more.platform, declaration.more.target, declaration.python)
    common = (declaration.kind, *target, declaration.resolver, declaration.sdists)
    if isinstance(declaration, CondaImage):
        return (*common, declaration.file)
    project = (declaration.requirements, declaration.extras, declaration.groups)
    return (*common, *project, _ground(catalogue, declaration.base))


def _ground(catalogue: Catalogue, base: str) -> str:
    """What a declaration names as its base, where an implied image has taken that one's place."""
    implied = catalogue.find(declared_name(base)) if declared_name(base) != base else None
    if implied is not None and isinstance(implied.declaration, (PipImage, CondaImage, DockerfileImage)):
        return implied.declaration.base
    return base
