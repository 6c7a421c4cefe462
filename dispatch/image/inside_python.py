"""Runs inside of an image, on its own interpreter and without network: what is installed, and does it work.

Standard library only, Python 3.9 or later, run as a file: ``inside_python.py JOB``, JOB a JSON file with

``kind``    ``pip`` or ``conda``: which metadata a prefix has
``prefix``  of the environment; ``site`` is its site-packages
``output``  the file for the answer; ``limit`` the seconds that one import or script may take

The answer is JSON: ``packages``, each with ``name``, ``version``, ``build`` (of conda), ``files`` (how many
were hashed) and ``wrong`` (what is not as its metadata says); ``imports`` and ``scripts`` map a module or a
script to the complaint, which is empty where all is well. Refuses to judge (``verify`` does): it has no lock.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

# Not for import: what packages ship beside themselves by mistake or for their developers.
_NOT_MODULES = {"conftest", "doc", "docs", "example", "examples", "benchmarks", "setup", "test", "tests"}
# Shell snippets to be sourced, and what no shell here could start.
_NOT_SCRIPTS = (".bat", ".csh", ".fish", ".ps1", ".sh", ".exe")
_BROKEN = (
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "PackageNotFoundError",
    "DistributionNotFound",
)
# Reports each import as soon as it is done: one that takes the process with it is the first that is missing.
_IMPORTER = """
import importlib, sys
answer = open(sys.argv[1], "w", buffering=1)
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
        said = ""
    except BaseException as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
    print(name, said, sep="\\t", file=answer)
answer.flush()
import os
os._exit(0)
"""


def pip_packages(site: Path) -> Iterator[dict[str, Any]]:
    """Yield what is installed in a site-packages by its metadata.

    ``paths`` are those of its files, relative to site-packages; ``points`` the names of its entry points.
    """
    for info in sorted(site.glob("*.dist-info")):
        metadata = HeaderParser().parsestr(_text(info / "METADATA"))
        rows = list(csv.reader(_text(info / "RECORD").splitlines()))
        wrong = [complaint for row in rows if row and (complaint := _record_complaint(site, row))]
        yield {
            "name": metadata.get("Name") or info.name.partition("-")[0],
            "version": metadata.get("Version") or "",
            "files": sum(len(row) > 1 and bool(row[1]) for row in rows),
            "wrong": wrong,
            "paths": [row[0] for row in rows if row],
            "points": _entry_points(info / "entry_points.txt"),
        }


def _record_complaint(site: Path, row: list[str]) -> str:
    """Say how a file differs from its row in RECORD; empty where it does not, or nothing is said of it."""
    path = site / row[0]
    algorithm, _, wanted = (row[1] if len(row) > 1 else "").partition("=")
    if not path.exists():
        # Compiled files are not all kept, and nobody needs them.
        return "" if path.suffix == ".pyc" else f"{row[0]} is missing"
    if algorithm != "sha256":
        return ""
    digest = base64.urlsafe_b64encode(_sha256(path)).rstrip(b"=").decode("ascii")
    return "" if digest == wanted else f"{row[0]} was changed"


def conda_packages(prefix: Path, site: Path) -> Iterator[dict[str, Any]]:
    """Yield what is installed in a conda prefix by its metadata; see :func:`pip_packages`."""
    for file in sorted((prefix / "conda-meta").glob("*.json")):
        facts = json.loads(_text(file))
        paths = (facts.get("paths_data") or {}).get("paths") or [
            {"_path": each} for each in facts.get("files", ())
        ]
        wrong = [complaint for path in paths if (complaint := _path_complaint(prefix, path))]
        yield {
            "name": facts["name"],
            "version": facts["version"],
            "build": facts.get("build", ""),
            "files": len(paths),
            "wrong": wrong,
            "paths": [os.path.relpath(prefix / path["_path"], site) for path in paths],
            "points": [path["_path"][len("bin/") :] for path in paths if _is_script(prefix, path["_path"])],
        }


def _path_complaint(prefix: Path, facts: dict[str, Any]) -> str:
    path = prefix / facts["_path"]
    if not os.path.lexists(path):
        return "" if path.suffix == ".pyc" else f"{facts['_path']} is missing"
    wanted = facts.get("sha256_in_prefix") or facts.get("sha256")
    if path.is_symlink() or not wanted or facts.get("path_type") in ("softlink", "directory"):
        return ""
    return "" if _sha256(path).hex() == wanted else f"{facts['_path']} was changed"


def _is_script(prefix: Path, path: str) -> bool:
    """Whether a file of a conda package is a command in Python; what else is in bin is nobody's to try."""
    if not path.startswith("bin/") or not (prefix / path).is_file():
        return False
    with (prefix / path).open("rb") as file:
        return file.readline(512).startswith(f"#!{prefix}/bin/python".encode())


def modules(paths: list[str]) -> list[str]:
    """Return the modules at the top that the files of a package make up; private ones are left out.

    Below a directory that is no package (a namespace), the packages in it count.
    """
    packages = {path.rpartition("/")[0] for path in paths if path.endswith("/__init__.py")}
    top = {each for each in packages if not any(f"{above}" in packages for above in _above(each))}
    top |= {path.partition(".")[0] for path in paths if "/" not in path and path.endswith((".py", ".so"))}
    return sorted(name.replace("/", ".") for name in top if _is_public(name))


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _is_public(path: str) -> bool:
    parts = path.split("/")
    fit = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return fit and not _NOT_MODULES.intersection(parts)


def scripts(prefix: Path, site: Path, package: dict[str, Any]) -> list[str]:
    """Return the names of a pip package's commands: entry points, and programs that it brings as files."""
    up = os.path.relpath(prefix / "bin", site)
    brought = [path[len(up) + 1 :] for path in package["paths"] if path.startswith(f"{up}/")]
    found = {name for name in brought if "/" not in name and not name.endswith(_NOT_SCRIPTS)}
    return sorted(found.union(package["points"]))


def _entry_points(listing: Path) -> list[str]:
    if not listing.exists():
        return []
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(_text(listing))
    groups = [group for group in ("console_scripts", "gui_scripts") if parser.has_section(group)]
    return [name for group in groups for name in parser[group]]


def try_imports(names: list[str], work: Path, limit: float) -> dict[str, str]:
    """Import modules in a process of their own; return the complaint about each."""
    if not names:
        return {}
    with tempfile.NamedTemporaryFile(dir=work, suffix=".tsv") as answer:
        command = [sys.executable, "-c", _IMPORTER, answer.name, *names]
        code = _run(command, work, limit)[0]
        found = {
            name: said
            for name, _, said in (line.partition("\t") for line in _text(Path(answer.name)).splitlines())
        }
    reached = len(found)
    if reached == len(names):
        return found
    ended = "it took too long" if code is None else f"it ended the interpreter with {_cause(code)}"
    return {**found, names[reached]: ended, **try_imports(names[reached + 1 :], work, limit)}


def try_script(path: Path, work: Path, limit: float) -> str:
    """Start a script with ``--help``; return the complaint. That it refuses the option is its own thing."""
    if not os.access(path, os.X_OK):
        return "it is not executable" if path.exists() else "it is missing"
    try:
        code, said = _run([str(path), "--help"], work, limit)
    except OSError as error:
        return f"it does not start: {error.strerror}"
    last = said.strip().splitlines()[-1:] or [""]
    if code is None or code == 0:
        return ""  # still at work: it runs
    if code < 0 or code in (126, 127):
        return f"it ended with {_cause(code)}"
    broken = "Traceback" in said and last[0].partition(":")[0].rpartition(".")[2] in _BROKEN
    return last[0] if broken else ""


def _run(command: list[str], work: Path, limit: float) -> tuple[int | None, str]:
    """Run a command; return its exit code, None if it had to be ended, and what it said on stderr."""
    with tempfile.TemporaryFile(dir=work) as said:
        process = subprocess.Popen(
            command,
            cwd=work / "empty",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code = None
        said.seek(0)
        return code, said.read().decode("utf-8", "replace")


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def examine(job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Return the answer to a job; ``work`` is a directory to write in."""
    prefix, site, limit = Path(job["prefix"]), Path(job["site"]), float(job["limit"])
    (work / "empty").mkdir()
    os.environ.update(HOME=str(work), XDG_CACHE_HOME=str(work), PYTHONDONTWRITEBYTECODE="1")
    os.environ["PATH"] = f"{prefix}/bin:{os.environ.get('PATH', '/usr/bin:/bin')}"
    if job["kind"] == "pip":
        packages = list(pip_packages(site))
        commands = sorted({name for package in packages for name in scripts(prefix, site, package)})
    else:
        packages = list(conda_packages(prefix, site))
        commands = sorted({name for package in packages for name in package["points"]})
    wanted = [names for package in packages if (names := modules(package["paths"]))]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        imports = pool.map(lambda names: try_imports(names, work, limit), wanted)
        starts = pool.map(lambda name: try_script(prefix / "bin" / name, work, limit), commands)
        answer = {
            "imports": {name: said for found in imports for name, said in found.items()},
            "scripts": dict(zip(commands, starts)),
        }
    kept = ("name", "version", "build", "files", "wrong")
    return {**answer, "packages": [{key: each[key] for key in kept if key in each} for each in packages]}


def main(arguments: list[str]) -> int:
    """Answer a job."""
    job = json.loads(Path(arguments[0]).read_text("utf-8"))
    with tempfile.TemporaryDirectory() as work:
        answer = examine(job, Path(work))
    Path(job["output"]).write_text(json.dumps(answer), "ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
