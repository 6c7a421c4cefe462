"""Asks what the declared steps are: classes, versions, typed arguments. The client's half.

The question and the answer are JSON (``runtime.describe`` is the other half). It is put to the client's own
interpreter first, in a process of its own; a step whose modules do not import here is asked about once inside
its own image. So the client never needs the steps' libraries, and never imports their code into its process.
A step without an image runs in the current environment, whose word on it is final.

Answers are kept by (image digest, every ``*.py`` of the snapshot, runtime, the step's own declaration): as
long as none of these changes, neither a process nor a container is started. Errors are never kept, nor is
what was said of the current environment, which has no digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.fingerprint import canonical, digest
from dispatch.graph import StepNode

CONTRACT = 1
_MANY = 3
_IMPORT_FAILED = re.compile(r"\b(ModuleNotFoundError|ImportError): ")


@dataclass(frozen=True)
class Description:
    """What a step is, as its own code says.

    ``arguments`` is the canonical tree with unresolved references (see ``fingerprint``). ``requires`` are the
    distributions, by normalised names, without which nobody can read a result in the format; ``modules``
    those that make classes known which the arguments name, besides ``module``; ``metadata`` is the class's.
    ``cacheable`` is None where the class leaves it to ``deterministic``.
    """

    class_name: str
    module: str
    qualname: str
    type: str
    version: str | None
    deterministic: bool
    cacheable: bool | None
    format: Mapping[str, Any]
    arguments: Any
    resources: Mapping[str, Any] | None
    requires: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Description:
        """Read the ``ok`` part of an answer."""
        return cls(
            class_name=answer["class"],
            module=answer["module"],
            qualname=answer["qualname"],
            type=answer["type"],
            version=answer["version"],
            deterministic=answer["deterministic"],
            cacheable=answer["cacheable"],
            format=answer["format"],
            arguments=answer["arguments"],
            resources=answer["resources"],
            requires=tuple(answer.get("requires", ())),
            modules=tuple(answer.get("modules", ())),
            metadata=answer.get("metadata", {}),
        )


class Oracle(Protocol):
    """Puts a question to an interpreter and returns its answer, both as JSON objects."""

    def on_client(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Ask the client's own interpreter; None if it cannot be asked at all."""

    def in_image(self, image: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask inside the named image, which is built for it where it is missing."""


@dataclass(frozen=True)
class Question:
    """A step to describe, its image's name, and the image's digest (None: not known until it is built).

    Without an image it is described by the current environment, and by that alone.
    """

    node: StepNode
    image: str | None
    image_digest: str | None


@dataclass(frozen=True)
class CodeBase:
    """The user's code as far as a description depends on it.

    ``python_digest`` covers every ``*.py`` of the snapshot; ``runtime`` is the digest of our own runtime;
    ``paths`` are the import paths inside a container.
    """

    packages: tuple[str, ...]
    paths: tuple[str, ...]
    python_digest: str
    runtime: str


class Describer:
    """Answers questions about steps, from the cache where possible."""

    def __init__(self, cache: Path, code: CodeBase, oracle: Oracle) -> None:
        self._cache = cache
        self._code = code
        self._oracle = oracle

    def describe(self, questions: Sequence[Question], *, may_build: bool = True) -> dict[str, Description]:
        """Return the description of each step by name.

        With ``may_build`` false (a dry run) steps that only their image could describe are left out. Raises
        ConfigurationError for a step whose type or arguments are wrong, the first of those asked together.
        """
        found = {question.node.name: self._read(question) for question in questions}
        missing = [question for question in questions if found[question.node.name] is None]
        if missing:
            missing = self._ask(missing, self._oracle.on_client, found, final=False)
        for question in missing:
            if question.image is None:
                raise _unanswered(question.node)
        images = dict.fromkeys(question.image for question in missing if question.image is not None)
        for image in images if may_build else ():
            asked = [question for question in missing if question.image == image]
            self._ask(asked, partial(self._oracle.in_image, image), found, final=True)
        return {name: description for name, description in found.items() if description is not None}

    def _ask(
        self,
        questions: Sequence[Question],
        ask: Callable[[Mapping[str, Any]], Mapping[str, Any] | None],
        found: dict[str, Description | None],
        *,
        final: bool,
    ) -> list[Question]:
        """Put the questions, keep what was answered, and return those that stay open."""
        answer = ask(self._request(questions))
        if answer is None:
            return list(questions)
        unanswered = []
        for question in questions:
            part = answer["steps"][question.node.name]
            if "ok" in part:
                self._write(question, part["ok"])
                found[question.node.name] = Description.from_answer(part["ok"])
            elif final or question.image is None or not _may_be_elsewhere(part["error"], answer):
                raise _refusal(question, part["error"], answer)
            else:
                unanswered.append(question)
        return unanswered

    def _request(self, questions: Sequence[Question]) -> dict[str, Any]:
        return {
            "contract": CONTRACT,
            "packages": list(self._code.packages),
            "paths": list(self._code.paths),
            "steps": {question.node.name: _declaration(question.node) for question in questions},
        }

    def _path(self, question: Question) -> Path | None:
        if question.image is None or question.image_digest is None:
            return None
        key = ["describe", CONTRACT, self._code.runtime, self._code.python_digest, question.image_digest]
        scope = [list(self._code.packages), list(self._code.paths), _declaration(question.node)]
        return self._cache / f"{digest(canonical([key, scope]))}.json"

    def _read(self, question: Question) -> Description | None:
        path = self._path(question)
        if path is None:
            return None
        try:
            return Description.from_answer(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            # An unreadable entry is a missing one: it is asked and written again.
            return None

    def _write(self, question: Question, answer: Mapping[str, Any]) -> None:
        path = self._path(question)
        if path is None:
            return
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(answer))
            temporary.replace(path)
        except OSError:
            # The answer is known all the same; only the next run has to ask again.
            with contextlib.suppress(OSError):
                temporary.unlink()


def _declaration(node: StepNode) -> dict[str, Any]:
    return {"type": node.type, "arguments": node.arguments, "format": node.options.format}


def _failures(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    packages = cast("Mapping[str, Mapping[str, Any] | None]", answer["packages"])
    return {name: failure for name, failure in packages.items() if failure is not None}


def _may_be_elsewhere(error: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the step's image may know what this interpreter does not.

    An unknown name, of a step or of a class in its arguments, is no fault as long as something did not import
    here, nor is a step whose own code (its ``massage_kwargs``, say) imports only when called.
    """
    if error["kind"] == "unknown_type" or error.get("absent"):
        return error["kind"] == "import" or bool(_failures(answer))
    return _IMPORT_FAILED.search(error["message"]) is not None


def _refusal(question: Question, error: Mapping[str, Any], answer: Mapping[str, Any]) -> ConfigurationError:
    """Turn an answer's error into ours, adding what failed to import where a name stayed unknown."""
    node, message, remedy = question.node, str(error["message"]), str(error["remedy"])
    if not message.startswith("step "):
        message = f"step {node.name!r}: {message}"
    if error["kind"] == "unknown_type":
        known = sorted(str(name) for name in answer["types"])
        message = f"step {node.name!r}: unknown step type {node.type!r}{did_you_mean(node.type, known)}"
        message += f"\n  registered: {', '.join(known) or 'none'}"
        remedy = "register it in a module under `include_package:`, or name its place, package.module.Class"
    elif not error.get("absent"):
        return ConfigurationError(message, remedy)
    # A module that was named and did not import is in the message already.
    failures = _import_failures(question, answer) if error["kind"] != "import" else []
    broken = failures or error["kind"] == "import"
    if broken and question.image is None:
        remedy += "; install what is missing in the current environment, or name an image for the step"
    elif broken:
        remedy += "; and let the step's image hold what it imports"
    return ConfigurationError(message + "".join(f"\n  {line}" for line in failures), remedy)


def _unanswered(node: StepNode) -> ConfigurationError:
    return ConfigurationError(
        f"step {node.name!r}: the current environment's Python broke off when asked what it is",
        "import the modules under `include_package:` in it by hand, or name an image for the step",
    )


def _import_failures(question: Question, answer: Mapping[str, Any]) -> list[str]:
    """Say what did not import, each failure once with the packages that share it."""
    packages: dict[str, list[str]] = {}
    for package, failure in _failures(answer).items():
        packages.setdefault(_brief(str(failure["error"])), []).append(repr(package))
    where = "here" if question.image is None else "in this image"
    lines = []
    for error, names in packages.items():
        more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
        lines.append(f"{', '.join(names[:_MANY])}{more} did not import {where}: {error}")
    return lines


def _brief(text: str) -> str:
    """Cut a page to its first line and its last: libraries say there what failed, and why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
