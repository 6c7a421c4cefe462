"""One lock is one image: whatever the machine, its user, settings and caches, and the Python that builds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dispatch.testing.condapackages import MINOR, true_channel
from dispatch.testing.index import serving, wheel

ROOT = Path(__file__).parents[2]
SITE = Path(pytest.__file__).parents[1]
ENTRY = "[console_scripts]\n{name} = {name}:main\n"


@dataclass(frozen=True)
class Surroundings:
    """How a machine differs from the first: what stands before the command, variables, umask, paths."""

    before: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    place: str = "cache"
    python: str = sys.executable


def other_pythons() -> list[str]:
    """Two interpreters of this machine that can run us: another patch version, and another minor one."""
    places = [Path("/usr/bin"), *Path(sys.base_prefix).parent.glob("*/bin")]
    found = {sys.version: ""}
    for path in sorted(each for place in places for each in place.glob("python3.1[0-9]")):
        command = [str(path), "-c", "import sys, sysconfig; print(sys.version, end='')"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.setdefault(done.stdout, str(path))
    others = sorted(((version, path) for version, path in found.items() if path), reverse=True)
    same = [path for version, path in others if version.startswith(f"{MINOR}.")]
    return [*same[:1], *(path for _, path in others if path not in same)][:2]


def isolated(*options: str, script: str = "") -> tuple[str, ...]:
    """The words that run a command in namespaces of its own, none where this machine forbids that."""
    words = ("unshare", *options, "sh", "-c", f'{script}exec "$@"', "sh")
    done = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if done.returncode == 0 else ()


ELSEWHERE = {
    "machine, time zone": Surroundings(
        isolated("--map-root-user", "--uts", script="hostname elsewhere; "),
        {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "77"},
    ),
    "user, locale": Surroundings(
        isolated("--user"),
        {"USER": "somebody", "LOGNAME": "somebody", "HOME": "/nowhere", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"},
    ),
    "umask, no links": Surroundings(environ={"UV_LINK_MODE": "copy"}, umask=0o077),
    "open umask, path": Surroundings(umask=0, place=f"an other plâce/{'long' * 40}/cache"),
    "warm cache": Surroundings(),
    **{f"Python of {python}": Surroundings(python=python) for python in other_pythons()},
}


@dataclass(frozen=True)
class Yard:
    """What is built from, and the IDs that the first machine got."""

    root: Path
    index: str
    first: Mapping[str, str]

    def ids(self, surroundings: Surroundings) -> dict[str, str]:
        """Build in some surroundings, and return the IDs by name."""
        cache = self.root / surroundings.place
        # What makes images is to be made again; what installers keep may stay.
        shutil.rmtree(cache / "layers", ignore_errors=True)
        places = (self.root / "channel", self.root / "wheels", cache)
        path = os.pathsep.join((str(ROOT), str(SITE)))
        done = subprocess.run(
            [*surroundings.before, surroundings.python, "-m", "dispatch.testing.imageids", *map(str, places)],
            env={**os.environ, "PYTHONPATH": path, "PIP_INDEX_URL": self.index, **surroundings.environ},
            umask=surroundings.umask,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A channel, an index with two packages, and the images of the first machine."""
    root = tmp_path_factory.mktemp("everywhere")
    true_channel(root / "channel", python=False)
    (root / "wheels").mkdir()
    with serving(root / "index") as index:
        for name in ("tiny", "small"):
            file = root / "wheels" / f"{name}-1.0-py3-none-any.whl"
            file.write_bytes(wheel(name, f"def main():\n    print({name!r})\n"))
            with zipfile.ZipFile(file, "a") as archive:
                archive.writestr(f"{name}-1.0.dist-info/entry_points.txt", ENTRY.format(name=name))
            index.serve(name, file.name, file.read_bytes())
        empty = Yard(root, index.address, {})
        yield Yard(root, index.address, empty.ids(Surroundings()))


@pytest.mark.parametrize("how", ELSEWHERE)
def test_same_image(how: str, yard: Yard) -> None:
    """Surroundings that differ give the same image IDs, for pip and for conda."""
    assert set(yard.first) == {"pip", "conda"}
    assert yard.ids(ELSEWHERE[how]) == yard.first


def test_other_content(yard: Yard) -> None:
    """The IDs are those of the content: another file gives another image."""
    (yard.root / "wheels" / "more.txt").write_text("more")
    try:
        other = yard.ids(Surroundings(place="other"))
    finally:
        (yard.root / "wheels" / "more.txt").unlink()
    assert other["pip"] != yard.first["pip"]
    assert other["conda"] == yard.first["conda"]
