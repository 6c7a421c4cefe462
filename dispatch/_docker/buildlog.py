"""A build while it runs, for people: its steps, what is cached, what they print, and why it failed.

Owns the meaning of what an engine tells of a build: BuildKit's trace, and the classic builder's text. What
the docker command prints is read by ``buildcli``. Refuses to talk to anything.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch._docker.buildtrace import StepOutput, TraceError, Vertex, decode_trace
from dispatch.errors import ImageError
from dispatch.reporting import Reporter

SHOWN_LINES = 20
_LINE_LIMIT = 2000
# Colours and the movements of cursors; what is left of control characters is no text either.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SHELL = re.compile(r'(?P<place>(?:\[[^]]*\] )?)RUN (?P<words>\["/bin/sh", ?"-ec", ?"(?:[^"\\]|\\.)*"\])')
_CLASSIC_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_CLASSIC_CHATTER = re.compile(
    r"(?: ---> |Removing intermediate container |Successfully (?:built|tagged) ).*", re.DOTALL
)
_CLASSIC_CACHED = " ---> Using cache"
_INTERNAL = ("[internal]", "copy /context", "exporting ", "resolve image config", "docker-image://", "auth]")


@dataclass
class _Step:
    """One step: its name, and the end of what it printed."""

    name: str
    told: bool = False
    partial: str = ""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_LINES))


class BuildLog:
    """Tells ``report`` of one build, step by step; every line begins with ``name``, the image's.

    ``image_id`` and ``error`` are what the engine said of the result, each empty until it did.
    """

    def __init__(self, name: str, report: Reporter) -> None:
        self._name = name
        self._report = report
        self._steps: dict[str, _Step] = {}
        self._current = ""
        self._failed = ""
        self.image_id = ""
        self.error = ""

    def take(self, message: Mapping[str, Any]) -> None:
        """Take one message of the Engine API's ``POST /build``; one that is not understood is passed over."""
        aux = message.get("aux")
        if message.get("id") == "moby.buildkit.trace" and isinstance(aux, str):
            self._trace(aux)
        elif isinstance(aux, Mapping) and isinstance(aux.get("ID"), str):
            self.image_id = aux["ID"]
        elif isinstance(message.get("stream"), str):
            self._classic(message["stream"])
        detail = message.get("errorDetail")
        if isinstance(detail, Mapping) and detail.get("message"):
            self.error = str(detail["message"])
        elif message.get("error"):
            self.error = str(message["error"])

    def step(self, key: str, name: str, cached: bool = False) -> None:
        """A step has begun, or is taken from the cache."""
        step = self._steps.setdefault(key, _Step(_one_line(name)))
        self._current = key
        if not step.told and not step.name.startswith(_INTERNAL):
            step.told = True
            self._say(f"{step.name}{' (cached)' if cached else ''}")

    def output(self, key: str, text: str) -> None:
        """A step printed something, which may end in the middle of a line."""
        step = self._steps.setdefault(key, _Step(""))
        *lines, step.partial = (step.partial + text).split("\n")
        for line in lines:
            self._line(step, line)

    def failed(self, key: str) -> None:
        """A step has failed."""
        self._failed = key

    def failure(self, declared: str) -> ImageError:
        """Return what ``error`` comes to; ``declared`` is the file to look at."""
        from dispatch._docker.buildfailure import explain

        step = self._steps.get(self._failed or self._current)
        for each in self._steps.values():
            if each.partial:
                self._line(each, each.partial)
                each.partial = ""
        return explain(
            f"image {self._name!r}",
            self.error,
            step.name if step else "",
            list(step.last if step else ()),
            declared,
        )

    def _trace(self, aux: str) -> None:
        try:
            found = decode_trace(aux)
        except TraceError:
            return  # the build goes on, and its end is told in plain words
        for each in found:
            if isinstance(each, StepOutput):
                self.output(each.vertex, each.data.decode("utf-8", "replace"))
                continue
            self._vertex(each)

    def _vertex(self, vertex: Vertex) -> None:
        if vertex.started:
            self.step(vertex.digest, vertex.name, vertex.cached)
        # What only was stopped because another step failed has an error as well.
        if vertex.error and "context canceled" not in vertex.error and not self._failed:
            self.failed(vertex.digest)

    def _classic(self, text: str) -> None:
        found = _CLASSIC_STEP.fullmatch(text.rstrip("\n"))
        if found:
            number, total, line = found.groups()
            self.step(text, f"[{number}/{total}] {line}")
        elif text.startswith(_CLASSIC_CACHED):
            self._say("  (cached)")
        elif not _CLASSIC_CHATTER.fullmatch(text) and (text.strip("\n") or self._steps.get(self._current)):
            self.output(self._current, text)

    def _line(self, step: _Step, line: str) -> None:
        # A progress bar writes its line again and again: what stands there at last counts.
        plain = _plain(line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if plain:
            step.last.append(plain)
            self._say(f"  {plain}")

    def _say(self, text: str) -> None:
        self._report(f"{self._name}: {text}")


def _plain(text: str) -> str:
    return _CONTROL.sub("", _ESCAPES.sub("", text)).expandtabs()[:_LINE_LIMIT]


def _one_line(name: str) -> str:
    """Return the line of a step; a command that we gave to a shell is shown as it was written."""
    found = _SHELL.fullmatch(name)
    if found:
        with contextlib.suppress(ValueError):
            name = f"{found['place']}RUN {json.loads(found['words'])[2]}"
    lines = _plain(name.replace("\n", "\v").replace("\v", " ")).strip()
    return re.sub(r"\s+", " ", lines)
