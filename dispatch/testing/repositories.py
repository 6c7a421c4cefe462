"""Git repositories for tests, made by git itself under a configuration that no user has touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

_FOUND = shutil.which("git") or "/usr/bin/git"
ENVIRON = {
    "PATH": f"{Path(_FOUND).parent}{os.pathsep}{os.defpath}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
_AUTHOR = {
    f"GIT_{who}_{fact}": value
    for who in ("AUTHOR", "COMMITTER")
    for fact, value in (("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", "1700000000 +0100"))
}
# Submodules and clones of tests lie in directories.
_LOCAL = ("-c", "protocol.file.allow=always")


def git(root: Path, *words: str) -> str:
    """Run git as the user would; AssertionError with what it said if it fails."""
    done = subprocess.run(
        ["git", "-C", str(root), *_LOCAL, *words],
        env={**ENVIRON, **_AUTHOR},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def new(root: Path, *options: str, **files: str) -> Path:
    """Make a repository with one commit of files, whose names have ``__`` for a slash and ``_`` for a dot."""
    root.mkdir(parents=True)
    git(root, "init", "-q", "--initial-branch=main", *options)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commit(root)
    return root


def commit(root: Path) -> str:
    """Commit everything, and return the commit."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "change")
    return git(root, "rev-parse", "HEAD")


def contents(directory: Path) -> dict[str, tuple[str, bytes, bool]]:
    """Kind, bytes and executability of all files below a directory, without git's own."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if ".git" in path.relative_to(directory).parts:
            continue
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()), False)
        elif path.is_file():
            found[name] = ("file", path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


def git_files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Contents of everything in ``.git``, with the times of what is not an object."""
    return {
        str(path.relative_to(root)): (
            path.read_bytes(),
            0 if "objects" in path.parts else path.stat().st_mtime_ns,
        )
        for path in (root / ".git").rglob("*")
        if path.is_file()
    }
