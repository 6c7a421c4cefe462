"""Reads a configuration: the steps of one experiment, and the images they run in.

Owns the keys at the top of the file and which image each step gets, if any. What a step may say is owned by
``graph``, what an image may say by ``settings.images``, where images are found by ``catalogue``, how ``-o``
is laid over it by ``settings.overrides``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from dispatch.config.catalogue import Catalogue, collect
from dispatch.config.expansion import declared_name
from dispatch.environment import DebianImage, Environment
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.graph import StepGraph
from dispatch.settings import Settings, read_modules, repository_root
from dispatch.settings.document import OVERRIDES, Document, is_jsonnet, read_document
from dispatch.settings.images import IMAGE_FILE, NAME, read_image, read_image_name
from dispatch.settings.matrix import read_declared, read_images
from dispatch.settings.overrides import is_json, overlay
from dispatch.settings.section import Section

__all__ = ["Config", "find_images", "folders", "is_folder", "load", "load_folder", "of_graph"]

KEYS = ("image", "images", "include_package", "steps")


@dataclass(frozen=True)
class Config:
    """A configuration that can be carried out as far as files tell.

    ``image`` is the default for steps that name none. ``images`` maps every step to the name of its
    environment, None where neither the step nor a default names one; ``environments`` holds these and their
    bases, a base before what is built on it. ``include_package`` are modules to import besides those of the
    settings. ``path`` and ``directory`` are absolute. ``renewal`` is what `dispatch lock` is given to
    renew the locks, None for the file's name. ``folder`` are the images that a folder of one declares, where
    it is not a configuration of steps.
    """

    path: Path
    directory: Path
    graph: StepGraph
    image: str | None
    images: Mapping[str, str | None]
    environments: Mapping[str, Environment]
    include_package: tuple[str, ...] = ()
    renewal: str | None = None
    folder: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The images that its steps run in, each once, or those that the folder declares."""
        return self.folder or tuple(dict.fromkeys(name for name in self.images.values() if name is not None))

    def lockable(self, wanted: Sequence[str] = ()) -> list[str]:
        """The environments whose locks are renewed: those of the named images with all that these imply.

        Without names they are all but bases with a life of their own. ConfigurationError for a name that
        nobody declares.
        """
        for name in wanted:
            if name not in self.environments:
                known = list(self.environments)
                fact = f"{self.path.name}: no image {name!r}{did_you_mean(name, known)}"
                raise ConfigurationError(fact, f"known: {', '.join(known)}")
        own = wanted or self.folder
        chosen = [
            each
            for name, each in self.environments.items()
            if (name in own or declared_name(name) in own if own else _is_own(each))
        ]
        return [each.name for each in chosen if hasattr(each.declaration, "lock")]


def _is_own(environment: Environment) -> bool:
    return (
        not isinstance(environment.declaration, DebianImage)
        or declared_name(environment.name) != environment.name
    )


def load(
    path: Path,
    settings: Settings,
    packaged_images: Path,
    *,
    overrides: str | None = None,
    variables: Mapping[str, str] | None = None,
    unused: bool = False,
) -> Config:
    """Read the configuration at ``path`` (absolute). ``packaged_images`` is ``assets.images()``.

    ``overrides`` is JSON or Jsonnet to be merged over the file, ``variables`` what ``std.extVar`` gives in
    Jsonnet. With ``unused`` the environments hold, too, what the file declares and no step names. Raises
    ConfigurationError for everything that is wrong in it but its locks, which are not read here.
    """
    if path.name == IMAGE_FILE:
        remedy = "name a configuration of steps; `dispatch build` and `dispatch lock` take an image, too"
        raise ConfigurationError(f"{path}: declares an image, and no steps", remedy)
    document = _read(path, overrides, variables or {})
    section = Section.of(document)
    section.only(KEYS)
    image = read_image_name(section, "image") or settings.image
    entries = [read_images(section.section("images")), settings.images]
    places = folders(path.parent, packaged_images)
    found = _composed(document, _graph(section), image, entries, places, unused=unused)
    return replace(found, include_package=read_modules(section, "include_package"))


def load_folder(
    path: Path,
    settings: Settings,
    packaged_images: Path,
    *,
    overrides: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Config:
    """Read an image's folder, or the file in it, as a configuration without steps; else as :func:`load`."""
    file = path if path.name == IMAGE_FILE else path / IMAGE_FILE
    name = file.parent.name
    if not NAME.fullmatch(name):
        fact = f"{file}: its folder's name, {name!r}, is no name for an image"
        raise ConfigurationError(fact, "use letters, digits, '_', '.' and '-'")
    if path.is_dir() and not file.is_file():
        below = ", ".join(str(each.parent) for each in sorted(path.glob(f"*/{IMAGE_FILE}")))
        fact = f"{path}: no image is declared there: it holds no {IMAGE_FILE}"
        raise ConfigurationError(fact, f"name one of: {below}" if below else "name a configuration")
    section = Section.of(_read(file, overrides, variables or {}))
    declared = read_declared(section, name)
    catalogue = Catalogue([declared, settings.images], folders(file.parent, packaged_images))
    return Config(
        path=file,
        directory=file.parent,
        graph=StepGraph([]),
        image=None,
        images=MappingProxyType({}),
        environments=MappingProxyType(collect(catalogue, [(each, str(file)) for each in declared])),
        folder=tuple(declared),
    )


def is_folder(path: Path) -> bool:
    """Whether a path is that of an image's folder, or of the file in it, and not of a configuration."""
    return path.name == IMAGE_FILE or path.is_dir()


def of_graph(graph: StepGraph, directory: Path, settings: Settings, packaged_images: Path) -> Config:
    """Make the configuration of a graph that a program made, as a file in ``directory`` (absolute) would be.

    Errors are those of :func:`load`.
    """
    document = Document(directory / "step_graph", {}, {})
    places = folders(directory, packaged_images)
    return _composed(document, graph, settings.image, [settings.images], places)


def _composed(
    document: Document,
    graph: StepGraph,
    image: str | None,
    entries: list[Mapping[str, Environment]],
    places: list[Path],
    *,
    unused: bool = False,
) -> Config:
    """Find the image of each step: ``entries`` are declared ones by name, ``places`` folders of them."""
    inline = _inline(document, graph, Catalogue(entries, places))
    images = {
        name: inline[name].name if name in inline else _image(graph, name, image) for name in graph.order
    }
    catalogue = Catalogue([{entry.name: entry for entry in inline.values()}, *entries], places)
    used = [(used, _user(document, graph, name)) for name in graph.order if (used := images[name])]
    environments = collect(catalogue, used)
    if unused:
        environments = _with_unused(catalogue, used, entries[0])
    return Config(
        path=document.path,
        directory=document.path.parent,
        graph=graph,
        image=image,
        images=MappingProxyType(images),
        environments=MappingProxyType(environments),
    )


def find_images(
    names: Iterable[str], directory: Path, settings: Settings, packaged_images: Path
) -> dict[str, Environment]:
    """Return the environments of ``names`` and their bases, without a configuration.

    ``directory`` (absolute) says which repository's ``images/`` counts. Errors are those of :func:`load`.
    """
    catalogue = Catalogue([settings.images], folders(directory, packaged_images))
    return collect(catalogue, [(name, f"image {name!r}") for name in names])


def _read(path: Path, overrides: str | None, variables: Mapping[str, str]) -> Document:
    if variables and not is_jsonnet(path) and (overrides is None or is_json(overrides)):
        fact = f"{path}: takes no variables, as it is not Jsonnet: {', '.join(sorted(variables))}"
        remedy = f'rename it to {path.stem}.jsonnet and write std.extVar("NAME"), or use {OVERRIDES}'
        raise ConfigurationError(fact, remedy)
    document = read_document(path, variables)
    return document if overrides is None else overlay(document, overrides, variables)


def _graph(section: Section) -> StepGraph:
    steps = section.section("steps")
    if steps is None or not steps.content:
        raise section.refusal("steps", "there are no steps", "declare them under `steps:`")
    try:
        return StepGraph.from_params(dict(steps.content))
    except ConfigurationError as error:
        changed = {str(keys[1]) for keys in section.document.overridden if keys[0] == "steps" and keys[1:]}
        by_hand = any(error.message.startswith(f"step {name!r}:") for name in changed)
        where = f"{section.document.path} with {OVERRIDES}" if by_hand else str(section.document.path)
        raise type(error)(f"{where}: {error.message}", error.remedy) from error


def folders(directory: Path, packaged: Path) -> list[Path]:
    """Where images are looked for by name: in the repository around a directory, then in the package."""
    root = repository_root(directory)
    return [packaged] if root is None else [root / "images", packaged]


def _inline(document: Document, graph: StepGraph, catalogue: Catalogue) -> dict[str, Environment]:
    """Return, by step, the declarations that stand in steps, each under a name that nothing else has."""
    mappings = {name: graph[name].options.image for name in graph.order}
    found: dict[str, Environment] = {}
    taken: set[str] | None = None
    for step, mapping in mappings.items():
        if not isinstance(mapping, Mapping):
            continue
        taken = set(catalogue.known()) if taken is None else taken
        name = f"{step}-image"
        while name in taken:
            name += "-"
        taken.add(name)
        found[step] = read_image(Section(document, ("steps", step, "step_image"), mapping), name)
    return found


def _with_unused(
    catalogue: Catalogue, used: list[tuple[str, str]], declared: Iterable[str]
) -> dict[str, Environment]:
    """Collect what is used, and the images that no step uses as far as they are well."""
    environments = collect(catalogue, used)
    for name in declared:
        try:
            environments = collect(catalogue, [*used, (name, "")])
        except ConfigurationError:
            continue
        used = [*used, (name, "")]
    return environments


def _image(graph: StepGraph, step: str, default: str | None) -> str | None:
    image = graph[step].options.image or default
    assert image is None or isinstance(image, str), "declarations in place have been read before"
    return image


def _user(document: Document, graph: StepGraph, step: str) -> str:
    """Where it is said that a step uses its image, for messages."""
    own = graph[step].options.image is not None
    if document.is_overridden(("steps", step, "step_image") if own else ("image",)):
        return f"{OVERRIDES}: step {step!r}"
    return f"{document.where(('steps', step))}: step {step!r}"
