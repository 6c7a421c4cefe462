"""Runs inside a build, on the base's own interpreter: makes the wheel of one source distribution.

Standard library only, Python 3.9 or later, run as a file. ``build_wheel.py JOB``, where JOB is a JSON file:
``{"sdist", "backend", "path", "site", "bin", "output"}``. The source is unpacked, the backend (PEP 517) is
loaded with what was locked for it, and its wheel is left alone in the directory ``output``.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import site
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any


def unpacked(sdist: Path, place: Path) -> Path:
    """Unpack a source distribution and return the one directory that it holds."""
    if sdist.name.endswith(".zip"):
        with zipfile.ZipFile(sdist) as archive:
            archive.extractall(place)
    else:
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(place, filter="data")
            else:
                archive.extractall(place)
    (root,) = [path for path in place.iterdir() if path.is_dir()]
    return root


def backend_of(job: dict[str, Any], root: Path) -> Any:
    """Load the backend, which sees what was installed for it, and so do its own children."""
    os.environ["PYTHONPATH"] = job["site"]
    os.environ["PATH"] = job["bin"] + os.pathsep + os.environ.get("PATH", os.defpath)
    site.addsitedir(job["site"])
    # In front of what the interpreter itself has.
    sys.path.remove(job["site"])
    sys.path[:0] = [*(str(root / each) for each in job["path"]), job["site"]]
    module, _, attributes = job["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for name in filter(None, attributes.split(".")):
        backend = getattr(backend, name)
    return backend


def refuse_missing(backend: Any) -> None:
    """End where the backend asks for more than its package declares, and that is not there."""
    asked = getattr(backend, "get_requires_for_build_wheel", list)
    missing = []
    for requirement in asked():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    if missing:
        raise SystemExit(f"its build asks for {', '.join(missing)}, which its pyproject.toml does not name")


def main(path: str) -> int:
    """Build one wheel."""
    job: dict[str, Any] = json.loads(Path(path).read_text("ascii"))
    output = Path(job["output"])
    output.mkdir(parents=True)
    root = unpacked(Path(job["sdist"]), Path(tempfile.mkdtemp(prefix="dispatch-")))
    os.chdir(root)
    backend = backend_of(job, root)
    refuse_missing(backend)
    backend.build_wheel(str(output))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
