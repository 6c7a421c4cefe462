"""Wheels from source: what is sent to be built, the run of it on a real interpreter, and what is kept."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pytest

from dispatch._docker.building import BuildRequest
from dispatch.errors import ImageError
from dispatch.image.wheels import WheelMaker
from dispatch.lock.model import PipLock, PipPin, Target
from dispatch.reporting import Reporter
from dispatch.testing.images import FakeInstaller, base_image
from dispatch.testing.index import packed_source
from dispatch.testing.reporting import RecordingReporter

BACKEND = """\
import builderhelp, os, sys, zipfile
{asks}
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{wheel}"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        place = os.getcwd().rpartition("/")[2]
        archive.writestr(zipfile.ZipInfo("thing.py"), repr([builderhelp.WORD, place]))
    return name
"""
TOML = '[build-system]\nrequires = ["builderhelp"]\nbuild-backend = "own"\nbackend-path = ["."]\n'
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def source(wheel: str = "thing-1.0-py3-none-any.whl", asks: str = "") -> bytes:
    """A source distribution with a backend of its own."""
    return packed_source("thing", {"pyproject.toml": TOML, "own.py": BACKEND.format(wheel=wheel, asks=asks)})


@dataclass
class FakeEngine:
    """Runs what a build would run, in a directory of this machine instead of in an image."""

    place: Path
    builds: int = 0
    tags: list[str] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)

    def tag(self, image_id: str, repository: str, tag: str) -> None:  # noqa: ARG002
        """Remember a name."""
        self.tags.append(f"{repository}:{tag}")

    def remove_image(self, reference: str) -> None:
        """Forget it."""
        self.tags.remove(reference)

    def build_files(
        self,
        request: BuildRequest,
        path: str,
        target: Path,
        report: Reporter,
        cancelled: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        """Unpack the context, run every job in it, and hand over what came out."""
        assert request.args["BASE"] in self.tags
        assert not request.network
        self.builds += 1
        root = self.place / str(self.builds)
        data = b"".join(request.chunks())
        assert len(data) == request.size
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            archive.extractall(root, filter="data")
        for job in sorted((root / "dispatch-build").glob("*.json")):
            self.seen[job.name] = job.read_bytes()
            job.write_text(job.read_text().replace('"/dispatch-build', f'"{root}/dispatch-build'))
            words = [sys.executable, "-E", "-s", str(root / "dispatch-build/build_wheel.py"), str(job)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ImageError(done.stderr)
            report(done.stdout)
        (root / f"dispatch-build{path}").rename(target)


@dataclass
class FakeFetcher:
    """Has one source distribution."""

    path: Path
    fetched: int = 0

    def fetch(self, lock: PipLock, pin: PipPin) -> Path:
        """Hand it over."""
        assert pin.name in lock.sdists
        self.fetched += 1
        return self.path


LOCK = PipLock(
    "base",
    Target(PYTHON, "2.36", "x86_64"),
    "0" * 64,
    (PipPin("other", "1", ("sha256:1",)), PipPin("thing", "1.0", ("sha256:2",))),
    sdists=("thing",),
    builders=(PipPin("builderhelp", "2", ("sha256:3",)),),
)
BASE = base_image("base")


@dataclass
class Bench:
    """A maker with its fakes."""

    folder: Path
    lock: PipLock = LOCK

    def __post_init__(self) -> None:
        self.engine = FakeEngine(self.folder / "engine")
        self.fetcher = FakeFetcher(self.folder / "thing-1.0.tar.gz")
        self.fetcher.path.write_bytes(source())
        self.report = RecordingReporter()
        self.installer = FakeInstaller({"builderhelp": {"builderhelp.py": "WORD = 'help'\n"}})
        self.maker = WheelMaker(self.engine, self.fetcher, self.installer, self.folder / "cache")

    def make(self) -> Path:
        """Build, and return the wheel."""
        found = self.maker("env", self.lock, BASE, sys.executable, self.report, lambda: False)
        assert list(found) == ["thing"]
        return found["thing"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench with a package that comes as source."""
    return Bench(tmp_path)


def test_a_wheel_is_built_once(bench: Bench) -> None:
    """Its backend finds what the lock names for it, and the package's own files; then the wheel is known."""
    wheel = bench.make()
    assert b"['help', 'thing-1.0']" in wheel.read_bytes()
    assert bench.make() == wheel
    assert (bench.engine.builds, bench.fetcher.fetched) == (1, 1)
    assert bench.engine.tags == []


def test_a_damaged_wheel_is_built_again(bench: Bench) -> None:
    """What is kept is used only as long as it is what was kept."""
    wheel = bench.make()
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-1])
    assert bench.make().read_bytes() == whole
    assert bench.engine.builds == 2


def test_other_builders_make_another_wheel(bench: Bench) -> None:
    """What builds a package is part of what it comes to."""
    bench.make()
    bench.lock = replace(LOCK, builders=(PipPin("builderhelp", "3", ("sha256:4",)),))
    bench.make()
    assert bench.engine.builds == 2


def test_nothing_of_the_host_is_sent(bench: Bench) -> None:
    """Jobs name places of the image only."""
    bench.make()
    (job,) = bench.engine.seen.values()
    assert str(bench.folder).encode() not in job


WRONG = {
    "another version": (source("thing-2.0-py3-none-any.whl"), "came to a wheel of version 2.0"),
    "another package": (source("other-1.0-py3-none-any.whl"), "no wheel of it came out"),
    "more than it declares": (
        source(asks="def get_requires_for_build_wheel(_=None): return ['cmake>=3', 'builderhelp']\n"),
        "its build asks for cmake>=3, which its pyproject.toml does not name",
    ),
    "a failure": (source(asks="raise SystemError('no compiler')\n"), "no compiler"),
    "no archive": (b"x", "cannot be read as a source distribution"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_come_to_its_wheel_is_refused(bench: Bench, case: str) -> None:
    """The error says why, and nothing is kept."""
    content, expected = WRONG[case]
    bench.fetcher.path.write_bytes(content)
    with pytest.raises(ImageError, match=expected):
        bench.make()
    bench.fetcher.path.write_bytes(source())
    assert bench.make().name == "thing-1.0-py3-none-any.whl"
