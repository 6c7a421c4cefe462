"""What makes a step what it is: unique ids and records, in topological order.

The dependencies' ids enter each step's own. What enters no id is here as well where the planner has to ask
for it. Reads nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch.describe import Description
from dispatch.environment import (
    BeakerImage,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    PipImage,
)
from dispatch.errors import ConfigurationError
from dispatch.fingerprint import canonical, digest, resolve, unique_id
from dispatch.graph import SHELL, StepGraph, StepNode
from dispatch.info import StepRecord
from dispatch.lock.model import Lock
from dispatch.params import mark_references


@dataclass(frozen=True)
class ImageInputs:
    """What an image is made from beside its declaration.

    ``lock`` is that of its packages; ``below`` is the identity of the image it stands on where that one is
    part of the declaration, or is made from one that is not just a base (see :func:`needs_below`);
    ``content`` is the digest of the files that go into it.
    """

    lock: Lock | None = None
    below: str | None = None
    content: str | None = None


def needs_below(base: Environment) -> bool:
    """Whether the identity of a base enters that of the images on it, instead of its name alone.

    A base made for being one is taken by its name: a newer build of it makes no other steps.
    """
    return "+" in base.name or isinstance(base.declaration, (PipImage, CondaImage, DockerfileImage))


def image_identity(environment: Environment, inputs: ImageInputs) -> str:
    """The digest of a declaration and its lock, without base digest and platform.

    It enters the identity of shell steps: their result is what the command finds in the image. The names of
    files and of the environment do not enter.
    """
    declaration = environment.declaration
    if isinstance(declaration, DockerImage):
        return digest(canonical(["docker", declaration.reference]))
    if isinstance(declaration, BeakerImage):
        return digest(canonical(["beaker", declaration.name]))
    if isinstance(declaration, DebianImage):
        assert inputs.lock is not None
        return digest(canonical(["debian", inputs.lock.identity, dict(declaration.env)]))
    base = declaration.base if inputs.below is None else inputs.below
    env, more = dict(declaration.env), _more(declaration.more.user, inputs.content)
    if isinstance(declaration, DockerfileImage):
        steps = [list(declaration.more.apt), list(declaration.more.run)]
        return digest(canonical(["dockerfile", base, env, *steps, *more]))
    assert inputs.lock is not None
    kind = declaration.kind.value
    return digest(canonical([kind, inputs.lock.identity, base, declaration.python, env, *more]))


def _more(user: str, content: str | None) -> list[object]:
    """What enters only where it is said: images without it are what they were before one could say it."""
    return [{"user": user, "content": content}] if user or content is not None else []


def _unknown(image: str | None) -> frozenset[str] | None:  # noqa: ARG001
    return None


@dataclass(frozen=True)
class Given:
    """A step that is neither described nor run: it has a result, that an earlier run computed in ``image``.

    ``origin`` says where it is from, for people.
    """

    record: StepRecord
    image: str | None
    origin: str


@dataclass(frozen=True)
class Identities:
    """What the planner needs to know of images and sources.

    ``image`` gives the identity of a named environment, ``tree`` the digest of the snapshot's files under
    some paths of the repository (SourceError for a path that is not there): both enter the ids of shell
    steps. ``code`` is the digest of all ``*.py`` of the snapshot, which enters no id; empty if not known.
    ``distributions`` gives the normalised names of what a named environment (None: the current one) has
    installed, or None where nobody can tell. ``given`` are steps of the graph whose records are known.
    """

    image: Callable[[str], str]
    tree: Callable[[tuple[str, ...]], str]
    code: str = ""
    distributions: Callable[[str | None], frozenset[str] | None] = _unknown
    given: Mapping[str, Given] = field(default_factory=dict)


def identify(
    graph: StepGraph,
    images: Mapping[str, str | None],
    descriptions: Mapping[str, Description],
    identities: Identities,
) -> dict[str, StepRecord]:
    """Return the records of all steps that can be known, in topological order.

    Left out are steps whose description is missing, and every step behind them. Raises ConfigurationError for
    one that is given a unique id, or a cache, that it cannot have.
    """
    records: dict[str, StepRecord] = {}
    owners: dict[str, StepRecord] = {}
    for name in graph.order:
        node = graph[name]
        if name in identities.given:
            records[name] = identities.given[name].record
            continue
        if any(need not in records for need in node.dependencies):
            continue
        known = {need: records[need].unique_id for need in node.dependencies}
        if node.type == SHELL:
            record = _shell_record(node, identities, images[name], known)
        elif name in descriptions:
            record = _step_record(node, descriptions[name], known)
        else:
            continue
        owner = owners.setdefault(record.unique_id, record)
        if owner.identity != record.identity:
            raise ConfigurationError(
                f"steps {owner.name!r} and {name!r}: have one unique id, and are not the same step",
                "give one of them another step_unique_id_override",
            )
        records[name] = record
    return records


def _step_record(node: StepNode, description: Description, known: Mapping[str, str]) -> StepRecord:
    identity = {
        "type": description.type,
        "version": description.version,
        "format": canonical(dict(description.format)),
        "arguments": resolve(description.arguments, known),
    }
    return StepRecord(
        name=node.name,
        unique_id=_unique_id(node, description.class_name, identity),
        class_name=description.class_name,
        type=description.type,
        version=description.version,
        cacheable=_cacheable(node, description),
        deterministic=description.deterministic,
        dependencies=tuple(known.values()),
        config=_config(node),
        identity=identity,
        metadata={**description.metadata, **node.options.metadata},
    )


def _shell_record(
    node: StepNode, identities: Identities, image: str | None, known: Mapping[str, str]
) -> StepRecord:
    paths = tuple(node.arguments.get("paths", ()))
    arguments: dict[str, Any] = {
        "command": node.arguments["command"],
        "inputs": mark_references(node.arguments.get("inputs", {})),
        "image": None if image is None else identities.image(image),
        "env": dict(node.options.env),
        "tree": identities.tree(paths) if paths else None,
    }
    identity = {
        "type": SHELL,
        "version": None,
        "format": canonical(None),
        "arguments": resolve(canonical(arguments), known),
    }
    return StepRecord(
        name=node.name,
        unique_id=_unique_id(node, "Shell", identity),
        class_name="Shell",
        type=SHELL,
        version=None,
        cacheable=node.options.cache_results is not False,
        deterministic=True,
        dependencies=tuple(known.values()),
        config=_config(node),
        identity=identity,
        metadata=node.options.metadata,
    )


def _cacheable(node: StepNode, description: Description) -> bool:
    """Whether the result is kept: as the config says, else the class, else as it is deterministic."""
    wanted, allowed = node.options.cache_results, description.cacheable
    if wanted and allowed is False:
        raise ConfigurationError(
            f"step {node.name!r}: cache_results, but its class {description.class_name} is not CACHEABLE",
            "leave cache_results out, or let the class say CACHEABLE = True",
        )
    if wanted is not None:
        return wanted
    return description.deterministic if allowed is None else allowed


def _unique_id(node: StepNode, class_name: str, identity: Mapping[str, Any]) -> str:
    if node.options.unique_id is not None:
        return node.options.unique_id
    return unique_id(
        class_name, identity["version"], identity["type"], identity["format"], identity["arguments"]
    )


def _config(node: StepNode) -> dict[str, Any]:
    return {"type": node.type, **node.arguments}
