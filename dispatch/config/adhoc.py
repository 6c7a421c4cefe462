"""A configuration of one command that stands in no file: what `dispatch run -- COMMAND` runs.

Owns where its image is looked for: among the settings' and the folders of images, as for any configuration;
then under ``images:`` of the configurations that lie in the working directory; else it is a Docker reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dispatch.config import Config, folders
from dispatch.config.catalogue import Catalogue, collect, is_reference
from dispatch.environment import DockerImage, Environment
from dispatch.errors import ConfigurationError
from dispatch.graph import SHELL, StepGraph, StepNode
from dispatch.node import read_node
from dispatch.settings import SETTINGS_FILE, Settings
from dispatch.settings.document import read_document
from dispatch.settings.imagekeys import REFERENCE
from dispatch.settings.matrix import read_images
from dispatch.settings.section import Section

# The whole repository, as a path in it.
WHOLE = "/"
# What stands for the file's name in messages.
NAME = "dispatch run"
_ENDINGS = (".yml", ".yaml", ".toml", ".json")


@dataclass(frozen=True)
class Command:
    """One command as a step: its name, ``command`` for ``sh -c``, and the rest as config would say it.

    ``options`` are keys of steps (``step_env`` and the like), ``inputs`` names of steps that are given, by
    those of the inputs. ``paths`` are the files that its identity depends on, from the working directory:
    with none it is the whole repository, or, where ``kept`` is false because nobody can tell what the files
    are, the result serves this run alone.
    """

    step: str
    command: str
    image: str | None
    options: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    kept: bool = True


def load_command(
    command: Command,
    given: Sequence[StepNode],
    directory: Path,
    settings: Settings,
    packaged_images: Path,
) -> Config:
    """Make the configuration of a command in ``directory`` (absolute).

    ``given`` stand for the steps whose results it is given. Raises ConfigurationError for what no
    configuration could say either.
    """
    node = _node(command)
    environments, renewal = {}, None
    image = command.image
    if image is not None:
        catalogue, renewal = _catalogue(image, directory, settings, packaged_images)
        environments = collect(catalogue, [(image, f"{NAME}: image")])
    return Config(
        path=directory / NAME,
        directory=directory,
        graph=StepGraph([*given, node]),
        image=None,
        images=MappingProxyType({**{each.name: None for each in given}, node.name: image}),
        environments=MappingProxyType(environments),
        renewal=renewal,
    )


def _node(command: Command) -> StepNode:
    raw: dict[str, Any] = {"type": SHELL, "command": command.command, **command.options}
    if command.inputs:
        raw["inputs"] = {name: {"type": "ref", "ref": step} for name, step in command.inputs.items()}
    if command.paths:
        raw["paths"] = list(command.paths)
    elif not command.kept:
        raw["cache_results"] = False
    node = read_node(command.step, raw)
    if command.kept and not command.paths:
        return replace(node, arguments={**node.arguments, "paths": [WHOLE]})
    return node


def _catalogue(image: str, directory: Path, settings: Settings, packaged: Path) -> tuple[Catalogue, str]:
    """Return where an image is found, and what `dispatch lock` is to be given to renew its lock."""
    places = folders(directory, packaged)
    catalogue = Catalogue([settings.images], places)
    by_name = f"--image {image}"
    if catalogue.find(image) is not None:
        return catalogue, by_name
    beside = {path: found for path, found in _beside(directory) if image in found}
    if len(beside) > 1:
        names = ", ".join(path.name for path in beside)
        raise ConfigurationError(
            f"image {image!r} is declared by several configurations here: {names}",
            f"declare it in {SETTINGS_FILE}, or as images/{image}/image.yml",
        )
    for path, found in beside.items():
        return Catalogue([found, settings.images], places), path.name
    if is_reference(image) and REFERENCE.fullmatch(image):
        reference = Environment(image, DockerImage(image), directory / NAME)
        return Catalogue([{image: reference}], places), by_name
    error = catalogue.unknown(image, NAME)
    declare = f"declare it in {SETTINGS_FILE} under `images:`"
    raise ConfigurationError(error.message, f"{declare}, or name a Docker image with its tag: {image}:TAG")


def _beside(directory: Path) -> Iterator[tuple[Path, Mapping[str, Environment]]]:
    """What configurations in a directory declare; a file that is none, or is not well, declares nothing."""
    for path in sorted(directory.iterdir()):
        if path.suffix not in _ENDINGS or path.name == SETTINGS_FILE or not path.is_file():
            continue
        try:
            section = Section.of(read_document(path))
            if section.section("steps") is not None:
                yield path, read_images(section.section("images"))
        except ConfigurationError:
            continue
