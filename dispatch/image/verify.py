"""Does an image hold exactly what its locks say, and does it work: asked inside of it, without network.

Owns what is held against what, and the words for what differs. What is installed is read off the image
itself, never off what built it. Refuses to build anything (``--rebuild`` is ``app.rebuilding``), or to judge
images that have no lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch._docker.containers import Bind
from dispatch._docker.helper import OneShot
from dispatch.errors import ImageError
from dispatch.image.base import CONDA_PREFIX
from dispatch.image.ports import HelperRunner
from dispatch.image.recipes import PREFIX, PYTHON, site_packages
from dispatch.lock.model import CondaLock, DebianLock, Lock, PipLock
from dispatch.reporting import Reporter

_INSIDE = Path(__file__).with_name("inside_python.py")
_JOB, _OUTPUT = "/dispatch/job", "/dispatch/output"
_STATUS = "/var/lib/dpkg/status"
_LIMIT = 300.0
_TIMEOUT = 3 * 3600.0
_ALIASES = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}


@dataclass(frozen=True)
class Layer:
    """What one lock put into an image. With ``open_end`` steps ran above it, which may have added more."""

    lock: Lock
    open_end: bool = False


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: how many of it there are, and what is wrong with them."""

    name: str
    count: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What was found in one image."""

    name: str
    image: str
    checks: tuple[Check, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong."""
        return tuple(problem for check in self.checks for problem in check.problems)


@dataclass(frozen=True)
class Verifier:
    """Looks into images with helper containers. ``user`` (``uid:gid``) owns what they leave in ``work``."""

    runner: HelperRunner
    user: str
    work: Path
    limit: float = _LIMIT
    _number: list[int] = field(default_factory=lambda: [0])

    def verify(self, name: str, image: str, layers: Sequence[Layer], report: Reporter) -> Verification:
        """Look into the image with the ID ``image``, which is made of ``layers``, the lowest first.

        Raises ImageError where it cannot be looked into, EngineError where the engine does not answer.
        """
        checks: list[Check] = []
        for layer in layers:
            lock = layer.lock
            report(f"{name}: looking at {_what(lock)}")
            if isinstance(lock, DebianLock):
                installed = dpkg_packages(self._copied(image, _STATUS, "status").read_text("utf-8"))
                wanted = {each.name: each.version for each in lock.packages}
                checks.append(compared("debian packages", wanted, installed, layer.open_end))
            elif isinstance(lock, CondaLock):
                checks += self._conda(image, lock, layer.open_end)
            else:
                checks += self._pip(image, lock, layer.open_end)
        return Verification(name, image, tuple(checks))

    def _pip(self, image: str, lock: PipLock, open_end: bool) -> list[Check]:
        job = {"kind": "pip", "prefix": PREFIX, "site": site_packages(lock.target.python)}
        answer = self._asked(image, PYTHON, job)
        installed = {normal_name(each["name"]): str(each["version"]) for each in answer["packages"]}
        wanted = {normal_name(pin.name): pin.version for pin in lock.pins}
        return [
            compared("pip packages", wanted, installed, open_end, normal_version),
            *_working("pip", answer),
        ]

    def _conda(self, image: str, lock: CondaLock, open_end: bool) -> list[Check]:
        wanted = {each.name: f"{each.version} {each.build}" for each in lock.packages}
        if lock.python is None:
            found = [json.loads(file.read_text("utf-8")) for file in self._conda_meta(image)]
            installed = {str(each["name"]): f"{each['version']} {each.get('build', '')}" for each in found}
            return [compared("conda packages", wanted, installed, open_end)]
        site = f"{CONDA_PREFIX}/lib/python{lock.python}/site-packages"
        job = {"kind": "conda", "prefix": CONDA_PREFIX, "site": site}
        answer = self._asked(image, f"{CONDA_PREFIX}/bin/python", job)
        installed = {each["name"]: f"{each['version']} {each['build']}" for each in answer["packages"]}
        return [compared("conda packages", wanted, installed, open_end), *_working("conda", answer)]

    def _conda_meta(self, image: str) -> list[Path]:
        return sorted(self._copied(image, f"{CONDA_PREFIX}/conda-meta", "conda-meta").glob("*.json"))

    def _copied(self, image: str, path: str, name: str) -> Path:
        """Return a copy of what an image has at a path; its own ``cp`` makes it."""
        output = self._directory()
        finished = self.runner.run_once(
            OneShot(
                image,
                ("cp", "-R", path, _OUTPUT),
                (Bind(str(output), _OUTPUT, read_only=False),),
                user=self.user,
            )
        )
        if finished.exit_code != 0 or not (output / name).exists():
            raise ImageError(f"image {image[:19]}: {path} cannot be read: {_last(finished.stderr)}")
        return output / name

    def _asked(self, image: str, python: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what our program finds out inside of an image."""
        job_files, output = self._directory(), self._directory()
        (job_files / _INSIDE.name).write_bytes(_INSIDE.read_bytes())
        document = {**job, "output": f"{_OUTPUT}/answer.json", "limit": self.limit}
        (job_files / "job.json").write_text(json.dumps(document), "utf-8")
        shot = OneShot(
            image,
            (python, "-B", f"{_JOB}/{_INSIDE.name}", f"{_JOB}/job.json"),
            (Bind(str(job_files), _JOB), Bind(str(output), _OUTPUT, read_only=False)),
            user=self.user,
            timeout=_TIMEOUT,
        )
        finished = self.runner.run_once(shot)
        try:
            answer: dict[str, Any] = json.loads((output / "answer.json").read_text("ascii"))
        except (OSError, ValueError) as error:
            raise ImageError(
                f"image {image[:19]}: its Python ended with {finished.exit_code} and told nothing:"
                f" {_last(finished.stderr)}",
                "see whether the engine can mount this machine's files (`dispatch doctor`)",
            ) from error
        return answer

    def _directory(self) -> Path:
        self._number[0] += 1
        directory = self.work / str(self._number[0])
        directory.mkdir()
        return directory


def compared(
    what: str,
    wanted: Mapping[str, str],
    installed: Mapping[str, str],
    open_end: bool = False,
    same: Any = str,
) -> Check:
    """Hold what is installed against what is locked; ``same`` gives versions their one spelling."""
    problems = [
        f"{name} {wanted[name]} is not installed" for name in sorted(wanted.keys() - installed.keys())
    ]
    problems += [
        f"{name} is {installed[name]}, the lock says {wanted[name]}"
        for name in sorted(wanted.keys() & installed.keys())
        if same(wanted[name]) != same(installed[name])
    ]
    if not open_end:
        extra = sorted(installed.keys() - wanted.keys())
        problems += [f"{name} {installed[name]} is in no lock" for name in extra]
    return Check(what, len(installed), tuple(problems))


def _working(kind: str, answer: Mapping[str, Any]) -> list[Check]:
    """What files, imports and scripts have to say."""
    packages = answer["packages"]
    wrong = [f"{each['name']}: {complaint}" for each in packages for complaint in each["wrong"]]
    imports = [f"import {name}: {said}" for name, said in sorted(answer["imports"].items()) if said]
    scripts = [f"{name}: {said}" for name, said in sorted(answer["scripts"].items()) if said]
    return [
        Check(f"files of {kind} packages", sum(each["files"] for each in packages), tuple(wrong)),
        Check(f"imports of {kind} packages", len(answer["imports"]), tuple(imports)),
        Check(f"scripts of {kind} packages", len(answer["scripts"]), tuple(scripts)),
    ]


def dpkg_packages(status: str) -> dict[str, str]:
    """Return name → version of the installed packages that a dpkg status file lists."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def normal_name(name: str) -> str:
    """Return the one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def normal_version(version: str) -> tuple[str, ...]:
    """Return what is equal for two spellings of one version (``2023.03.01`` and ``2023.3.1``)."""
    release, _, local = version.lower().lstrip("v").partition("+")
    words = re.findall(r"[0-9]+|[a-z]+", release)
    parts = [str(int(word)) if word.isdigit() else _ALIASES.get(word, word) for word in words]
    return (*parts, "+", *re.findall(r"[0-9a-z]+", local))


def _what(lock: Lock) -> str:
    kind = {PipLock: "pip", CondaLock: "conda"}.get(type(lock), "debian")
    return f"its {len(lock.pins if isinstance(lock, PipLock) else lock.packages)} {kind} packages"


def _last(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
