"""A conda package of a Python that really runs: the one that runs the tests, taken apart.

Owns which of its files are taken: the interpreter, its library, and those modules that need no library but
the C library's and zlib, so that it runs in any image of the same machine whose glibc is not older.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path

from dispatch.testing.channel import PLACEHOLDER, Package

MINOR = "{}.{}".format(*sys.version_info[:2])
VERSION = "{}.{}.{}".format(*sys.version_info[:3])
# What no test imports, and would only be packed and compiled.
_LEFT_OUT = (
    {
        "__pycache__",
        "curses",
        "dbm",
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "msilib",
    }
    | {"pydoc.py", "pydoc_data", "site-packages", "sqlite3", "test", "tests", "tkinter", "turtle.py"}
    | {"turtledemo", "unittest", "wsgiref", "xml", "xmlrpc", "_pydecimal.py"}
)
_CODECS = re.compile(r"(?:cp|iso|koi|mac_|big|euc|gb|kz|shift|johab|hz|ptcp|tis).*\.py")
_KEPT = "cp437.py"
_NEEDED = re.compile(rb"\0(lib[\w+-]+)\.so[.\d]*(?=\0)")
_EVERYWHERE = {b"libc", b"libm", b"libpthread", b"libdl", b"libutil", b"librt", b"libz"}
_SITE = b"dist-packages"


def python_package(subdir: str = "linux-64") -> Package:
    """Return this interpreter as a package of a platform, which is to be this machine's."""
    base = Path(sys.base_prefix)
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(base), "base": str(base)}))
    files: dict[str, str | bytes] = {
        f"bin/python{MINOR}": Path(os.path.realpath(sys.executable)).read_bytes()
    }
    shared = Path(str(sysconfig.get_config_var("LIBDIR"))) / f"libpython{MINOR}.so.1.0"
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and shared.exists():
        files[f"lib/{shared.name}"] = shared.read_bytes()
    for place, data in _modules(library):
        files[f"lib/python{MINOR}/{place}"] = data
    files[f"lib/python{MINOR}/site-packages/README.txt"] = "Packages are installed here.\n"
    links = {"bin/python": f"python{MINOR}", "bin/python3": f"python{MINOR}"}
    # A short prefix, as of a distribution's Python, would be found where it is none.
    placeholder = str(base) if len(str(base)) > len("/opt/conda") else PLACEHOLDER
    return Package(
        "python",
        VERSION,
        ("zlib",),
        files,
        build="true_0",
        subdir=subdir,
        links=links,
        placeholder=placeholder,
    )


def _modules(library: Path) -> list[tuple[str, bytes]]:
    """Return the modules of a standard library that run anywhere."""
    found = []
    for directory, names, files in os.walk(library):
        names[:] = sorted(set(names) - _LEFT_OUT - {name for name in names if name.startswith("config-")})
        for name in sorted(set(files) - _LEFT_OUT):
            if directory.endswith("encodings") and _CODECS.fullmatch(name) and name != _KEPT:
                continue
            path = Path(directory) / name
            if name.endswith(".so"):
                data = path.read_bytes()
                if set(_NEEDED.findall(data)) <= _EVERYWHERE:
                    found.append((str(path.relative_to(library)), data))
            elif name.endswith(".py"):
                # A distribution's Python looks for packages elsewhere.
                data = path.read_bytes().replace(_SITE, b"site-packages")
                found.append((str(path.relative_to(library)), data))
    return found
