"""The runtime as a directory to mount: ``main.py`` and, in ``lib/``, the part of ``dispatch`` that travels.

Owns which modules travel, and the content-addressed copies below the cache. A copy is made beside its place
and renamed into it, so it is whole or absent, and two processes may make it at once. Once made its sources
are never edited; hence its bytecode is of the unchecked kind. Refuses to run anything: bytecode for another
minor version is made by the image's own interpreter (``runtime.bytecode``) and handed in.
"""

from __future__ import annotations

import contextlib
import hashlib
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dispatch.errors import DispatchError

PACKAGE = Path(__file__).parent

MODULES = (
    "__init__",
    "environment",
    "errors",
    "fingerprint",
    "graph",
    "identity",
    "info",
    "location",
    "node",
    "options",
    "place",
    "registrable",
    "resources",
    "retry",
    "step",
    "units",
)
FOLDERS = ("formats", "params", "runtime", "workspace")

_SCRIPT = "runtime/main.py"
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_ATTEMPTS = 3


@dataclass(frozen=True)
class Runtime:
    """A copy of the runtime on the client's disk, and the digest that names it."""

    directory: Path
    digest: str


def sources(package: Path = PACKAGE) -> dict[str, bytes]:
    """Return what travels, by its path inside the runtime directory, in order."""
    modules = [package / f"{module}.py" for module in MODULES]
    for folder in FOLDERS:
        modules += [path for path in (package / folder).glob("*.py") if path != package / _SCRIPT]
    found = {f"lib/dispatch/{path.relative_to(package).as_posix()}": path for path in modules}
    found["main.py"] = package / _SCRIPT
    try:
        return {name: path.read_bytes() for name, path in sorted(found.items())}
    except FileNotFoundError as error:
        raise DispatchError(
            f"runtime: {error.filename} is missing", remedy="reinstall dispatch-toolchain"
        ) from error


def digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of the runtime's sources: lowercase hex SHA-256 over names and contents."""
    total = hashlib.sha256(b"dispatch-runtime 1\n")
    for name, content in sorted(files.items()):
        total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def provide(cache: Path, package: Path = PACKAGE) -> Runtime:
    """Return the runtime directory below ``cache``, made if it is not there.

    It holds bytecode for the minor version of the calling interpreter. Files are 0644 and directories 0755
    whatever the umask: a container's user must be able to read them.
    """
    files = sources(package)
    name = digest(files)
    place = cache / "runtime" / f"{name}-{sys.implementation.cache_tag}"
    if not _is_whole(place, files):
        _make(place, files, bytecode={})
    return Runtime(place, name)


def find_for(cache: Path, image: str, package: Path = PACKAGE) -> Runtime | None:
    """Return the runtime directory that :func:`provide_for` made for an image, or None."""
    files = sources(package)
    name = digest(files)
    place = _place_for(cache, name, image)
    return Runtime(place, name) if _is_whole(place, files) else None


def provide_for(cache: Path, image: str, bytecode: Mapping[str, bytes], package: Path = PACKAGE) -> Runtime:
    """Return a runtime directory with bytecode that an image's interpreter made, made if it is not there.

    ``image`` is the image's digest (hex, with or without ``sha256:``). ``bytecode`` maps paths as
    ``runtime.bytecode`` writes them (``dispatch/__pycache__/step.cpython-312.pyc``) to contents. The copy is
    for this image alone: code that came out of a container never runs in another image's containers, nor on
    the client.
    """
    files = sources(package)
    name = digest(files)
    for path in bytecode:
        if not _is_bytecode(path, files):
            raise DispatchError(f"runtime: {path!r} is not a place for bytecode")
    place = _place_for(cache, name, image)
    if not _is_whole(place, files):
        _make(place, files, bytecode)
    return Runtime(place, name)


def _place_for(cache: Path, name: str, image: str) -> Path:
    return cache / "runtime" / f"{name}-{hashlib.sha256(image.encode()).hexdigest()[:32]}"


def _is_bytecode(path: str, files: Mapping[str, bytes]) -> bool:
    """Say whether a path is that of a travelling module's bytecode: nothing else may be slipped in."""
    pure = PurePosixPath(path)
    if pure.parent.name != "__pycache__" or pure.suffix != ".pyc" or str(pure) != path:
        return False
    source = pure.parent.parent / f"{pure.name.split('.')[0]}.py"
    return f"lib/{source}" in files


def _is_whole(place: Path, files: Mapping[str, bytes]) -> bool:
    """Compare sizes alone: they show what a power cut leaves (empty files), and cost no reading."""
    try:
        return all((place / name).stat().st_size == len(content) for name, content in files.items())
    except OSError:
        return False


def _make(place: Path, files: Mapping[str, bytes], bytecode: Mapping[str, bytes]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
        try:
            _fill(made, files, bytecode)
            _move_into_place(made, place, files)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DispatchError(
            f"runtime: {place} cannot be made: {error.strerror}", remedy="make the cache directory writable"
        ) from error


def _fill(made: Path, files: Mapping[str, bytes], bytecode: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        _write(made / name, content)
    for name, content in bytecode.items():
        _write(made / "lib" / name, content)
    if not bytecode:
        _compile(made / "lib")
    _settle_modes(made)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _compile(library: Path) -> None:
    for source in sorted(library.rglob("*.py")):
        py_compile.compile(
            str(source),
            dfile=source.relative_to(library).as_posix(),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _settle_modes(root: Path) -> None:
    root.chmod(_FOLDER_MODE)
    for path in root.rglob("*"):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)


def _move_into_place(made: Path, place: Path, files: Mapping[str, bytes]) -> None:
    """Rename ``made`` to ``place``; a whole copy that another process put there first is as good as ours."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            made.rename(place)
            return
        if _is_whole(place, files):
            return
        with contextlib.suppress(FileNotFoundError):
            broken = Path(tempfile.mkdtemp(prefix=".broken-", dir=place.parent))
            place.replace(broken)
            shutil.rmtree(broken, ignore_errors=True)
    made.rename(place)
