"""What a job does with its output where the engine captures that as files.

Owns when a directory becomes one archive beside it (``result.tar`` for ``result/``): many small files cost a
request each, and a capture keeps no links, empty files, empty directories, rights to execute, nor every name.
An archive is there only when it is whole. Refuses to move anything anywhere.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH105, PTH112, PTH114, PTH115, PTH118

from __future__ import annotations

import os
import shutil
import stat

from dispatch.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

# A request costs about as much as so many bytes.
MANY, SMALL = 16, 1 << 20
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+=@,- /")


def settle(output: str, completed: bool) -> None:
    """Leave in ``output`` what is to be captured: of a step that has its result no work, of others the work.

    FormatError for a result that cannot be one; OSError where it cannot be packed, and then it is as it was.
    """
    work = os.path.join(output, "work")
    if completed:
        shutil.rmtree(work, ignore_errors=True)
        pack(os.path.join(output, "result"))
    elif os.path.isdir(work):
        pack(work)


def pack(directory: str) -> None:
    """Put an archive in the place of a directory that would not come through as files."""
    if os.path.islink(directory):
        raise FormatError(f"{directory}: is a link", "leave the result in the directory that is there for it")
    entries = sorted(_walk(directory, ""))
    if not _travels_packed(directory, entries):
        return
    partial = f"{directory}.tar.part"
    try:
        _write(partial, directory, entries)
        os.replace(partial, f"{directory}.tar")
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)  # noqa: PTH108
        raise
    shutil.rmtree(directory)


def _walk(directory: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            path = prefix + entry.name
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, path + "/")


def _travels_packed(directory: str, entries: list[tuple[str, os.stat_result]]) -> bool:
    """Whether it must, or had better; what may be in no result at all is refused on the way."""
    packed, count, size = False, 0, 0
    filled = set()
    for path, facts in entries:
        mode = facts.st_mode
        if stat.S_ISLNK(mode):
            _refuse_outside(directory, path)
            packed = True
        elif stat.S_ISREG(mode):
            count, size = count + 1, size + facts.st_size
            packed = packed or not facts.st_size or bool(mode & stat.S_IXUSR)
        elif not stat.S_ISDIR(mode):
            raise FormatError(
                f"result file {path!r}: is a socket, pipe or device",
                "leave regular files in the result directory",
            )
        filled.add(path.rpartition("/")[0])
        packed = packed or not _PLAIN.issuperset(path)
    empty = not filled or any(path not in filled for path, facts in entries if stat.S_ISDIR(facts.st_mode))
    return packed or empty or (count > MANY and size < SMALL * count)


def _refuse_outside(directory: str, path: str) -> None:
    root = os.path.realpath(directory)
    target = os.readlink(os.path.join(root, path))
    end = os.path.realpath(os.path.join(root, path))
    if target.startswith("/") or not (end == root or end.startswith(root + "/")):
        raise FormatError(
            f"result file {path!r}: is a link to {target!r}, outside of the result",
            "make it a relative link to another file of the result, or copy the file",
        )


def _write(archive: str, directory: str, entries: list[tuple[str, os.stat_result]]) -> None:
    """Equal directories make equal archives."""
    import tarfile

    # Of all formats the one in which every tar there is reads names of any length that need not be text.
    how = {"format": tarfile.GNU_FORMAT, "encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(archive, "w", **how) as made:  # type: ignore[call-overload]
        for path, facts in entries:
            _add(made, os.path.join(directory, path), _header(directory, path, facts))


def _header(directory: str, path: str, facts: os.stat_result) -> tarfile.TarInfo:
    import tarfile

    info = tarfile.TarInfo(path)
    info.mode = 0o755
    if stat.S_ISLNK(facts.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(os.path.join(directory, path))
    elif stat.S_ISDIR(facts.st_mode):
        info.type = tarfile.DIRTYPE
    else:
        info.size = facts.st_size
        if not facts.st_mode & stat.S_IXUSR:
            info.mode = 0o644
    return info


def _add(archive: tarfile.TarFile, path: str, info: tarfile.TarInfo) -> None:
    if not info.isreg():
        archive.addfile(info)
        return
    with open(path, "rb") as file:  # noqa: PTH123
        archive.addfile(info, file)
