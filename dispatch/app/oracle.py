"""Puts describe's questions to interpreters: the client's own, in a process; an image's, in a container."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch import job as jobs
from dispatch.engine.base import Engine, Event, Handle, JobSpec, JobState, Mount, Network
from dispatch.environment import ImageRef
from dispatch.errors import EngineError, StepError
from dispatch.location import HostPath

CLIENT_TIMEOUT = 300.0
LAST_LINES = 15


@dataclass(frozen=True)
class Ground:
    """What both ways of asking share.

    ``runtime`` is the runtime's directory for the client's interpreter, ``source`` the tree on this machine
    of what questions call ``root``, ``workdir`` the working directory below ``root``, ``scratch`` where
    temporary directories are made, ``environ`` what the client's process hands down.
    """

    runtime: Path
    source: Path
    workdir: str
    scratch: Path
    environ: Mapping[str, str]
    root: str = jobs.CONTAINER.source


class InterpreterOracle:
    """See :class:`dispatch.describe.Oracle`.

    ``ground`` is asked only when a question is put: it exports the source. ``provide`` builds a named image
    and returns its reference and the runtime directory that suits it; ``engine`` gives the engine when a
    container is needed, and not before.
    """

    def __init__(
        self,
        ground: Callable[[], Ground],
        provide: Callable[[str], tuple[ImageRef, Path]],
        engine: Callable[[], Engine],
        say: Callable[[str], None],
    ) -> None:
        self._ground = ground
        self._provide = provide
        self._engine = engine
        self._say = say

    def on_client(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Ask a process of the client's own interpreter, in the tree of the ground."""
        self._ground().scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="describe-", dir=self._ground().scratch) as place:
            question, answer = Path(place, "request.json"), Path(place, "answer.json")
            here = {**request, "paths": [self._here(path) for path in request["paths"]]}
            question.write_text(json.dumps(here))
            main = str(self._ground().runtime / "main.py")
            try:
                subprocess.run(
                    [sys.executable, main, "describe", str(question), str(answer)],
                    cwd=self._here(self._ground().workdir),
                    env={**self._ground().environ, "PYTHONDONTWRITEBYTECODE": "1"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=CLIENT_TIMEOUT,
                )
                return _read(answer)
            except (OSError, subprocess.TimeoutExpired, ValueError):
                # The user's code broke this interpreter: the image's own decides.
                return None

    def _here(self, path: str) -> str:
        root = self._ground().root
        within = path == root or path.startswith(f"{root.rstrip('/')}/")
        return str(self._ground().source / (path[len(root) :].lstrip("/") if within else ""))

    def in_image(self, image: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask one container of the image, without network, the source read-only."""
        reference, runtime = self._provide(image)
        self._say(f"{image}: asking what its steps are")
        self._ground().scratch.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="describe-", dir=self._ground().scratch))
        try:
            event = self._run(self._job(place, reference, runtime, request))
            answer = _read(place / "output" / "answer.json")
            if answer is None:
                raise StepError(
                    f"image {image!r}: its Python could not say what the steps are"
                    f" (exit code {event.exit_code}){_tail(place / 'out.log', event.message)}",
                    "run the image's Python by hand and import the modules under `include_package:`",
                )
            return answer
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _job(self, place: Path, image: ImageRef, runtime: Path, request: Mapping[str, Any]) -> JobSpec:
        jobs.write_describe_job(place / "job", request, workdir=self._ground().workdir)
        (place / "output" / "result").mkdir(parents=True)
        for part in ("home", "tmp", "cache"):
            (place / "scratch" / part).mkdir(parents=True)
        container = jobs.CONTAINER
        return JobSpec(
            key=place.name,
            run=place.name,
            step="describe",
            attempt=1,
            image=image,
            command=container.command(),
            attempt_dir=place,
            mounts=(
                Mount(HostPath(runtime), container.runtime),
                Mount(HostPath(place / "job"), container.job),
                Mount(HostPath(place / "output"), container.output, read_only=False),
                Mount(HostPath(place / "scratch"), container.scratch, read_only=False),
                Mount(HostPath(self._ground().source), container.source),
            ),
            working_dir="/",
            env=jobs.describe_environment({}),
            network=Network.NONE,
        )

    def _run(self, job: JobSpec) -> Event:
        engine = self._engine()
        handles: list[Handle] = []
        try:
            handles = engine.submit([job])
            while True:
                event = engine.next_event(None)
                if event is None:
                    raise EngineError("the engine stopped answering", "start it again and repeat the command")
                if event.key == job.key and event.state is JobState.EXITED:
                    return event
        except KeyboardInterrupt:
            engine.cancel(handles, 0.0)
            raise
        finally:
            for handle in handles:
                engine.release(handle)


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        answer: Mapping[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return answer


def _tail(log: Path, message: str) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
    except OSError:
        lines = []
    if message:
        lines.append(message)
    return "".join(f"\n  {line}" for line in lines)
