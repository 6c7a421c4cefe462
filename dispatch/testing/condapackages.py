"""The packages of a small but true conda channel: what solvers and builders must get right, one each.

- ``python`` (this machine's, which runs) and what it depends on, ``zlib``; for other platforms one that
  only resolves, and for all an older minor version;
- ``libtext`` 1.2 and 1.3: placeholders of the prefix in text and binary, symbolic and hard links;
- ``greet``, a noarch Python package with an entry point, which needs ``libtext`` and ``python``;
- ``pip`` and ``numlib``, noarch Python packages with a dist-info, for pip sections to stand upon;
- ``accel``: builds for ``__cuda`` 12 and 11, and one for no GPU;
- ``newest``: needs a glibc that nobody has;
- ``toolkit``: scripts in ``activate.d`` and ``deactivate.d``;
- ``registered``: a post-link script;
- ``datafiles``: noarch generic; ``legacy``: the same, in the older format.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dispatch.lock.model import CondaLock, CondaPackage
from dispatch.testing.channel import SUBDIRS, Package, read_index, write_channel
from dispatch.testing.condapython import MINOR, VERSION, python_package

_PLATFORMS = tuple(subdir for subdir in SUBDIRS if subdir != "noarch")
_OLD = "3.10.4"
PYTHON = f"python-{VERSION}-true_0"
"""The stem of the file of the Python that runs."""

_ACTIVATE = 'export TOOLKIT_HOME="$CONDA_PREFIX/share/toolkit"\n'
_BINARY = b"\x7fELF\0made up\0{prefix}/share/libtext\0\0\0tail\0"


def dist_info(name: str, version: str) -> dict[str, str | bytes]:
    """Return the metadata of an installed package, below site-packages."""
    info = f"site-packages/{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"{info}/METADATA": metadata, f"{info}/INSTALLER": "conda\n"}


def noarch_python(name: str, version: str, *depends: str, **more: str) -> Package:
    """Return a noarch Python package of one module; ``more`` are other modules by name."""
    modules = {f"site-packages/{each}.py": text for each, text in more.items()}
    module = {f"site-packages/{name}/__init__.py": f'__version__ = "{version}"\n'}
    files = {**module, **modules, **dist_info(name, version)}
    return Package(name, version, ("python >=3.9", *depends), files)


def _stub(version: str, subdir: str, build: str = "stub_0") -> Package:
    files = {"bin/python3": "#!/bin/sh\nexit 70\n"}
    return Package("python", version, ("zlib",), files, build=build, subdir=subdir)


def _libtext(version: str, subdir: str) -> Package:
    return Package(
        "libtext",
        version,
        ("__glibc >=2.17",) if subdir.startswith("linux") else (),
        {
            f"lib/libtext.so.{version}": _BINARY,
            "bin/libtext-config": "#!/bin/sh\necho {prefix}/lib\n",
            "share/libtext/words.txt": "one\ntwo\n",
        },
        build="h1_0",
        subdir=subdir,
        links={"lib/libtext.so": f"libtext.so.{version}", "share/text": "libtext"},
        hardlinks={"share/libtext/same.txt": "share/libtext/words.txt"},
    )


def _accel(subdir: str) -> list[Package]:
    """Return the variants, of which a solver prefers the one with the highest build number that it can."""
    return [
        Package("accel", "2.0", (), {"share/accel": "cpu\n"}, "cpu_0", 0, subdir),
        Package("accel", "2.0", ("__cuda >=11",), {"share/accel": "cuda11\n"}, "cuda11_1", 1, subdir),
        Package("accel", "2.0", ("__cuda >=12",), {"share/accel": "cuda12\n"}, "cuda12_2", 2, subdir),
    ]


def _platform(subdir: str) -> list[Package]:
    packages = [
        Package("zlib", "1.3", (), {"share/zlib.txt": "not really\n"}, "h0_0", 0, subdir),
        _stub(_OLD, subdir),
        _libtext("1.2", subdir),
        _libtext("1.3", subdir),
        Package("newest", "1.0", ("__glibc >=2.99",), {"share/newest": "x\n"}, "h0_0", 0, subdir),
        *_accel(subdir),
    ]
    if subdir != "linux-64":
        packages.append(_stub(VERSION, subdir))
    return packages


def true_packages(python: bool = True) -> list[Package]:
    """Return all packages; without ``python`` that of linux-64 is a stand-in as well, which is faster."""
    main = python_package() if python else _stub(VERSION, "linux-64", "true_0")
    greet = {
        "site-packages/greet/__init__.py": 'def main():\n    print("hello from", __file__)\n',
        "site-packages/greet/tests/test_greet.py": "def test():\n    pass\n",
        **dist_info("greet", "1.0"),
    }
    return [
        main,
        *(package for subdir in _PLATFORMS for package in _platform(subdir)),
        Package("greet", "1.0", ("python >=3.9", "libtext"), greet, entry_points=("greet = greet:main",)),
        noarch_python("pip", "24.0"),
        noarch_python("numlib", "1.5"),
        noarch_python("numlib", "2.0"),
        Package(
            "toolkit",
            files={
                "etc/conda/activate.d/toolkit.sh": _ACTIVATE,
                "etc/conda/deactivate.d/toolkit.sh": "unset TOOLKIT_HOME\n",
                "share/toolkit/data": "1\n",
            },
        ),
        Package("registered", files={"bin/.registered-post-link.sh": "#!/bin/sh\ntouch $PREFIX/was-here\n"}),
        Package("legacy", files={"share/legacy": "in {prefix}\n"}, links={"share/old": "legacy"}, old=True),
        Package("datafiles", files={"share/datafiles/readme.txt": "in {prefix}\n"}),
    ]


def true_channel(directory: Path, python: bool = True) -> Path:
    """Write the channel of :func:`true_packages` and return its directory."""
    return write_channel(directory, true_packages(python))


def locked(channel: Path, *stems: str, name: str = "", platform: str = "linux-64") -> CondaLock:
    """Return the lock of packages of a channel, by the stems of their files; ``name`` is the channel's."""
    indexes = {subdir: read_index(channel, subdir) for subdir in (platform, "noarch")}
    packages = []
    for stem in stems:
        found, subdir, file = next(
            (index[file], subdir, file)
            for subdir, index in indexes.items()
            for file in (f"{stem}.conda", f"{stem}.tar.bz2")
            if file in index
        )
        packages.append(
            CondaPackage(
                name=found["name"],
                version=found["version"],
                build=found["build"],
                channel=name or str(channel),
                subdir=subdir,
                file=file,
                sha256=found["sha256"],
                size=found["size"],
                noarch=found.get("noarch", ""),
                depends=tuple(found["depends"]),
            )
        )
    return CondaLock(platform, (("__glibc", "2.36"),), "0" * 64, tuple(packages))


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files quietly, and notes what was asked for."""

    def __init__(self, *arguments: object, asked: list[str], directory: str) -> None:
        self._asked = asked
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a request."""
        self._asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a directory on the loopback: its address, and the paths that were asked for so far."""
    asked: list[str] = []
    handler = partial(_Handler, directory=str(directory), asked=asked)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


__all__ = [
    "MINOR",
    "PYTHON",
    "dist_info",
    "locked",
    "noarch_python",
    "served",
    "true_channel",
    "true_packages",
]
