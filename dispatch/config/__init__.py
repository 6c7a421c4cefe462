"""Reads a configuration: the steps of one experiment, and the images they run in.

Owns the keys at the top of the file and which image each step gets. What a step may say is owned by
``graph``, what an image may say by ``settings.images``, where images are found by ``catalogue``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dispatch.config.catalogue import Catalogue, collect
from dispatch.environment import Environment
from dispatch.errors import ConfigurationError
from dispatch.graph import StepGraph
from dispatch.settings import Settings, repository_root
from dispatch.settings.document import Document, read_document
from dispatch.settings.images import ImageEntry, read_image, read_image_name, read_images
from dispatch.settings.section import Section

__all__ = ["Config", "find_images", "load"]

KEYS = ("image", "images", "steps")


@dataclass(frozen=True)
class Config:
    """A configuration that can be carried out as far as files tell.

    ``image`` is the default for steps that name none. ``images`` maps every step to the name of its
    environment; ``environments`` holds these and their bases, a base before what is built on it. ``path`` and
    ``directory`` are absolute.
    """

    path: Path
    directory: Path
    graph: StepGraph
    image: str | None
    images: Mapping[str, str]
    environments: Mapping[str, Environment]


def load(path: Path, settings: Settings, packaged_images: Path) -> Config:
    """Read the configuration at ``path`` (absolute). ``packaged_images`` is ``assets.images()``.

    Raises ConfigurationError for everything that is wrong in it but its locks, which are not read here.
    """
    document = read_document(path)
    section = Section.of(document)
    section.only(KEYS)
    image = read_image_name(section, "image") or settings.image
    entries = [read_images(section.section("images")), settings.images]
    graph = _graph(section)
    folders = _folders(path.parent, packaged_images)
    inline = _inline(document, graph, Catalogue(entries, folders))
    images = {
        name: inline[name].name if name in inline else _image(document, graph, name, image)
        for name in graph.order
    }
    catalogue = Catalogue([{entry.name: entry for entry in inline.values()}, *entries], folders)
    used = [(images[name], f"{document.where(('steps', name))}: step {name!r}") for name in graph.order]
    return Config(
        path=path,
        directory=path.parent,
        graph=graph,
        image=image,
        images=MappingProxyType(images),
        environments=MappingProxyType(collect(catalogue, used)),
    )


def find_images(
    names: Iterable[str], directory: Path, settings: Settings, packaged_images: Path
) -> dict[str, Environment]:
    """Return the environments of ``names`` and their bases, without a configuration.

    ``directory`` (absolute) says which repository's ``images/`` counts. Errors are those of :func:`load`.
    """
    catalogue = Catalogue([settings.images], _folders(directory, packaged_images))
    return collect(catalogue, [(name, f"image {name!r}") for name in names])


def _graph(section: Section) -> StepGraph:
    steps = section.section("steps")
    if steps is None or not steps.content:
        raise section.refusal("steps", "there are no steps", "declare them under `steps:`")
    try:
        return StepGraph.from_params(dict(steps.content))
    except ConfigurationError as error:
        raise type(error)(f"{section.document.path}: {error.message}", error.remedy) from error


def _folders(directory: Path, packaged: Path) -> list[Path]:
    root = repository_root(directory)
    return [packaged] if root is None else [root / "images", packaged]


def _inline(document: Document, graph: StepGraph, catalogue: Catalogue) -> dict[str, ImageEntry]:
    """Return, by step, the declarations that stand in steps, each under a name that nothing else has."""
    mappings = {name: graph[name].options.image for name in graph.order}
    found: dict[str, ImageEntry] = {}
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


def _image(document: Document, graph: StepGraph, step: str, default: str | None) -> str:
    image = graph[step].options.image or default
    if not isinstance(image, str):
        fact = f"{document.where(('steps', step))}: step {step!r} says no image"
        remedy = "name one with `step_image:`, or for all steps with `image:` at the top of the file"
        raise ConfigurationError(fact, remedy)
    return image
