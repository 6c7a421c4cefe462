"""A directory of wheels made on the spot, and a pip environment that is locked from them alone.

Owns just enough of the wheel format for resolvers and installers, and settings that name no other index.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from dispatch.environment import Environment, PipImage
from dispatch.lock.model import NO_UPGRADE, BaseFacts, PipLock, Upgrade
from dispatch.lock.pip import read_pip, renew_pip
from dispatch.lock.piptools import PipTools
from dispatch.lock.uv import Uv, find_uv

FACTS = BaseFacts("debian-python", "3.11", "2.36", "x86_64")


def make_wheel(
    directory: Path, name: str, version: str, requires: str = "", tag: str = "py3-none-any"
) -> Path:
    """Write a wheel by hand: one module and one console script (binary distribution format, PyPA)."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), text)
    return wheel


def make_sdist(directory: Path, name: str, version: str) -> Path:
    """Write a source distribution by hand, whose metadata need no build."""
    file = directory / f"{name}-{version}.tar.gz"
    texts = {
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n',
    }
    with tarfile.open(file, "w:gz") as archive:
        for path, text in texts.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return file


class Place:
    """A directory with a wheelhouse, a requirements file and a uv that knows nothing else.

    ``path`` is where programs are looked for.
    """

    def __init__(self, directory: Path, path: str) -> None:
        self.wheels = directory / "hidden-wheels"
        self.wheels.mkdir()
        self.requirements = directory / "a.in"
        self.environment = Environment(
            "sk", PipImage(self.requirements, directory / "a.lock", "debian-python"), directory / "e.yml"
        )
        self.environ = {
            "PATH": path,
            "HOME": str(directory / "home"),
            "XDG_CONFIG_DIRS": str(directory / "xdg"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_CACHE_DIR": str(directory / "cache"),
        }
        make_wheel(self.wheels, "low", "1.0")
        make_wheel(self.wheels, "low", "2.0")
        make_wheel(self.wheels, "top", "1.0", requires="low<2")

    @property
    def lock(self) -> Path:
        """The path of the lock."""
        declaration = self.environment.declaration
        assert isinstance(declaration, PipImage)
        return declaration.lock

    @property
    def uv(self) -> Uv:
        """uv, with this place's settings."""
        return Uv(find_uv(self.environ), self.environ, command="dispatch lock e.yml")

    @property
    def pip_tools(self) -> PipTools:
        """pip-tools, with this place's settings."""
        return PipTools(self.environ)

    def declare(self, **changes: Any) -> None:
        """Change the declaration."""
        assert isinstance(self.environment.declaration, PipImage)
        declaration = replace(self.environment.declaration, **changes)
        self.environment = replace(self.environment, declaration=declaration)

    def renew(
        self, text: str | None = None, upgrade: Upgrade = NO_UPGRADE, provided: tuple[str, ...] = ()
    ) -> PipLock:
        """Write the requirements, renew the lock and read it."""
        if text is not None:
            self.requirements.write_text(text)
        renew_pip(self.environment, FACTS, self.uv, upgrade, provided)
        return read_pip(self.environment, FACTS, provided=provided)
