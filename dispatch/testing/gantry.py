"""gantry as its users have it: a program in an environment of its own, and a project of theirs.

Owns the environment (made by uv from the package index), a repository with the remote that gantry insists on,
its bare mirror, and an image with what gantry's entrypoint needs (bash, git, curl). Refuses to know of
servers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.testing import gitimage, repositories

VERSION = "3.7.0"
REFERENCE = "dispatch-test-gantry:1"
HOST = "github.com"


def image_files() -> dict[str, bytes]:
    """bash, git and curl of this machine, for :func:`dispatch.testing.busybox.busybox_archive`."""
    programs = [Path(shutil.which(name) or f"/usr/bin/{name}").resolve() for name in ("bash", "curl")]
    files = {**gitimage.git_files(), **gitimage.with_libraries(programs)}
    files["/bin/bash"] = next(content for path, content in files.items() if path.endswith("/bash"))
    # A fetch from a directory is served by this, which is git by another name.
    files["/usr/bin/git-upload-pack"] = next(
        content for path, content in files.items() if path.endswith("/git")
    )
    return files


@dataclass(frozen=True)
class Gantry:
    """The program, a project to run it in, and the environment it runs with."""

    program: Path
    project: Path
    mirrors: Path
    environ: Mapping[str, str]

    def __call__(self, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run gantry in the project; stdout and stderr are one, as its users see them."""
        return subprocess.run(
            [self.program, *words],
            cwd=self.project,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=timeout,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start gantry in the project, and do not wait for it."""
        return subprocess.Popen(
            [self.program, *words],
            cwd=self.project,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )


def install(directory: Path, uv: Path) -> Path:
    """Make an environment of gantry's own, and return the program."""
    environ = dict(os.environ)
    for words in (
        ("venv", "-q", str(directory)),
        ("pip", "install", "-q", "--python", str(directory / "bin/python"), f"beaker-gantry=={VERSION}"),
    ):
        done = subprocess.run([uv, *words], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return directory / "bin/gantry"


def project(root: Path, **files: str) -> tuple[Path, Path]:
    """Make a repository whose remote is a bare mirror of it, ``<mirrors>/acme/demo.git``: both paths.

    The remote's path has the host's name in it, for gantry takes no other.
    """
    work = repositories.new(root / "demo", **files)
    mirrors = root / "git" / HOST
    bare = mirrors / "acme" / "demo.git"
    bare.parent.mkdir(parents=True)
    repositories.git(root, "clone", "-q", "--bare", str(work), str(bare))
    repositories.git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    repositories.git(work, "remote", "add", "origin", str(bare))
    repositories.git(work, "fetch", "-q", "origin")
    repositories.git(work, "branch", "-q", "--set-upstream-to=origin/main", "main")
    return work, mirrors
