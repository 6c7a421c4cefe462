"""Finds declarations of images by name.

Owns the order of lookup: the configuration's ``images:``, the settings' ``images:``,
``images/<name>/image.yml`` of the user's repository, then those that ship with the package. A folder is
looked into only for a name that is used. Owns, too, what holds over all images of a configuration: bases are
found, and no lock has two owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os.path import normpath
from pathlib import Path

from dispatch.environment import CondaImage, DebianImage, DockerImage, Environment, PipImage
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.document import read_document
from dispatch.settings.images import IMAGE_FILE, NAME, ImageEntry, UnsupportedImage, read_image
from dispatch.settings.section import Section


class Catalogue:
    """Entries that files declare (the first mapping wins); behind them, folders of ``<name>/image.yml``."""

    def __init__(self, declared: Sequence[Mapping[str, ImageEntry]], folders: Sequence[Path]) -> None:
        self._declared = tuple(declared)
        self._folders = tuple(folders)

    def find(self, name: str) -> Environment | None:
        """Return the declaration of ``name``, None if there is none.

        Raises ConfigurationError for a declaration that is wrong, or of a kind that is not supported yet.
        """
        for entries in self._declared:
            if name in entries:
                return _supported(entries[name])
        # The name becomes a path here: only what cannot leave the folder gets that far.
        if not NAME.fullmatch(name):
            return None
        for folder in self._folders:
            path = folder / name / IMAGE_FILE
            if path.is_file():
                return _supported(read_image(Section.of(read_document(path)), name))
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


def _supported(entry: ImageEntry) -> Environment:
    if isinstance(entry, UnsupportedImage):
        raise entry.refusal()
    return entry


def is_reference(name: str) -> bool:
    """Whether a name that nobody declares looks like a Docker reference."""
    return any(sign in name for sign in ":/@")


def collect(catalogue: Catalogue, used: Iterable[tuple[str, str]]) -> dict[str, Environment]:
    """Return the environments of ``used`` (pairs of image and who uses it) and of all their bases.

    A base comes before what is built on it. A base that is no name of the catalogue but looks like a
    reference (it has ``:``, ``/`` or ``@``) is a ``docker`` image under that name.
    """
    found: dict[str, Environment] = {}
    for name, who in used:
        if name not in found:
            environment = catalogue.find(name)
            if environment is None:
                raise catalogue.unknown(name, who)
            _add(catalogue, found, environment, ())
    _check_locks(found.values())
    return found


def _add(
    catalogue: Catalogue, found: dict[str, Environment], environment: Environment, above: tuple[str, ...]
) -> None:
    name, declaration = environment.name, environment.declaration
    if isinstance(declaration, PipImage):
        if not declaration.requirements.is_file():
            fact = f"{environment.origin}: image {name!r}: the file {declaration.requirements} does not exist"
            raise ConfigurationError(fact, "create it, or mend the path after `pip:`")
        if declaration.base not in found:
            path = (*above, name)
            base = _base(catalogue, environment, declaration.base)
            if base.name in path:
                circle = " → ".join((*path[path.index(base.name) :], base.name))
                fact = f"{environment.origin}: an image is its own base: {circle}"
                raise ConfigurationError(fact, "give one of them another `base:`")
            _add(catalogue, found, base, path)
    found[name] = environment


def _base(catalogue: Catalogue, environment: Environment, name: str) -> Environment:
    base = catalogue.find(name)
    if base is None and is_reference(name):
        return Environment(name, DockerImage(name), environment.origin)
    if base is None:
        raise catalogue.unknown(name, f"{environment.origin}: base of image {environment.name!r}")
    return base


def _check_locks(environments: Iterable[Environment]) -> None:
    """Refuse two environments that would write different locks into one file."""
    owners: dict[Path, Environment] = {}
    for environment in environments:
        declaration = environment.declaration
        if not isinstance(declaration, (PipImage, CondaImage, DebianImage)):
            continue
        lock = Path(normpath(declaration.lock))
        owner = owners.setdefault(lock, environment)
        if _asked(owner) != _asked(environment):
            fact = f"images {owner.name!r} and {environment.name!r} differ but have one lock, {lock}"
            raise ConfigurationError(f"{environment.origin}: {fact}", "give one of them a `lock:` of its own")


def _asked(environment: Environment) -> tuple[object, ...]:
    """What a lock answers; ``bytecode`` and ``env`` change the image, never the lock."""
    declaration = environment.declaration
    if isinstance(declaration, PipImage):
        return (declaration.kind, declaration.requirements, declaration.base, declaration.python)
    if isinstance(declaration, CondaImage):
        return (declaration.kind, declaration.file, declaration.python, declaration.more.target)
    assert isinstance(declaration, DebianImage)
    asked = (declaration.suites, declaration.packages, declaration.architecture, declaration.epoch)
    return (declaration.kind, *asked, declaration.python)
