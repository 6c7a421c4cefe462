"""The door to uv: resolving requirements to exact packages, and installing a lock into a staging prefix.

Owns uv's command line, environment and messages. uv learns of indexes, proxies and credentials by its
environment, never by arguments; it runs in an empty directory, so that no project's settings reach it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ConfigurationError, ImageError
from dispatch.lock.complaint import translate
from dispatch.lock.index import Indexes
from dispatch.lock.model import PipLock, PipPin, Target
from dispatch.lock.pins import render_pins
from dispatch.lock.program import Run, captured
from dispatch.lock.resolving import Question

# Values of --python-platform that every uv since 0.5 knows; a wheel for an older glibc fits a newer one.
_MANYLINUX = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))
_ARCHITECTURES = frozenset({"x86_64", "aarch64"})


def find_uv(environ: Mapping[str, str]) -> Path:
    """Return the uv that is installed beside us, else the one on PATH; ConfigurationError without either."""
    import shutil

    try:
        from uv import find_uv_bin

        return Path(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv", path=environ.get("PATH"))
        if not found:
            raise ConfigurationError(
                "uv is not installed", remedy="install it beside dispatch: `pip install uv`"
            ) from None
        return Path(found)


def platform_of(target: Target) -> str:
    """Return uv's name for the target's platform, the newest it knows that the target still fits."""
    if target.architecture not in _ARCHITECTURES:
        raise ConfigurationError(
            f"no wheels can be chosen for the machine {target.architecture}",
            remedy=f"choose a base for one of: {', '.join(sorted(_ARCHITECTURES))}",
        )
    glibc = tuple(int(part) for part in target.glibc.split("."))
    fitting = [known for known in _MANYLINUX if known <= glibc]
    if not fitting:
        raise ConfigurationError(
            f"glibc {target.glibc} is too old for any wheel", remedy="choose a base with glibc 2.17 or newer"
        )
    return f"{target.architecture}-manylinux_{fitting[-1][0]}_{fitting[-1][1]}"


@dataclass(frozen=True)
class Uv:
    """uv, as this machine's settings have it.

    ``environ`` is the caller's environment; ``python`` is the interpreter that uv asks about its layout,
    of any minor version. ``command`` is what a message names to renew a lock.
    """

    executable: Path
    environ: Mapping[str, str]
    run: Run = subprocess.run
    python: str = sys.executable
    command: str = "dispatch lock"

    def compile(self, question: Question) -> tuple[PipPin, ...]:
        """Resolve requirements to exact packages, sorted by name; wheels only, but for ``sdists``.

        ConfigurationError where the requirements cannot be met, ImageError where the index does not answer.
        """
        requirements, target = question.requirements, question.target
        arguments = ["--generate-hashes", "--no-header", "--output-file", "known.txt"]
        arguments += ["--prerelease", "allow"] if requirements.prereleases else []
        arguments += [word for name in question.sdists for word in ("--no-binary", name)]
        arguments += ["--upgrade"] if question.upgrade.everything else []
        arguments += [word for name in question.upgrade.packages for word in ("--upgrade-package", name)]
        with tempfile.TemporaryDirectory(prefix="dispatch-lock-") as name:
            directory = Path(name)
            arguments += question.write(directory)
            env = self._indexes().for_uv(
                requirements.indexes, own_default=requirements.index_url is not None, compiling=True
            )
            self._uv(
                ["pip", "compile", "requirements.in", *arguments, *self._target(target)],
                directory=directory,
                env=env,
                failed=lambda said: translate(
                    self._redacted(said, directory, requirements.indexes),
                    target,
                    str(requirements.path),
                    self.command,
                    installing=False,
                ),
            )
            return question.answer(directory, "uv")

    def install(
        self, lock: PipLock, prefix: Path, python: str, built: Mapping[str, Path] | None = None
    ) -> None:
        """Install exactly the lock into ``prefix``, as ``lib/python<python>/site-packages`` and ``bin``.

        ``built`` are wheels of packages that the lock has as source, by name. Every file that is fetched is
        checked against its hash. The packages' own files may be **hard links into uv's
        cache**: replace them or read them, never write into them and never change their mode. What is
        written anew (``*.dist-info/RECORD``, ``INSTALLER``, ``REQUESTED`` and all of ``bin``) is private.
        uv's traces (``.lock``, ``uv_cache.json``) are left, and the scripts in ``bin`` name the client's
        interpreter. LockError where a download does not match or is not to be had, ImageError where the
        index does not answer.
        """
        prefix.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dispatch-install-") as name:
            directory = Path(name)
            ours = built or {}
            lines = render_pins([pin for pin in lock.pins if pin.name not in ours], comments=False)
            text = "\n".join([*lines, *(_local(name, path) for name, path in ours.items())]) + "\n"
            (directory / "requirements.txt").write_text(text, encoding="utf-8")
            arguments = ["--prefix", str(prefix.absolute()), "--require-hashes", "--no-deps"]
            arguments += ["--link-mode", self._link_mode(), "--requirement", "requirements.txt"]
            arguments = ["pip", "install", *arguments, *self._target(lock.target)]
            env = self._indexes().for_uv(lock.indexes, own_default=lock.own_default)
            # What is cached needs no index, the hashes say that it is right: quicker, and without network.
            if self._call(arguments, directory, {**env, "UV_OFFLINE": "1"}).returncode:
                self._uv(
                    arguments,
                    directory,
                    env,
                    failed=lambda said: translate(
                        self._redacted(said, directory, lock.indexes),
                        lock.target,
                        "installing the locked packages",
                        self.command,
                        installing=True,
                    ),
                )
        _rename_minor(prefix, python)

    def _indexes(self) -> Indexes:
        return Indexes.of(self.environ)

    def _link_mode(self) -> str:
        # Symbolic links would point out of the layer.
        chosen = self.environ.get("UV_LINK_MODE", "")
        return chosen if chosen in ("clone", "copy", "hardlink") else "hardlink"

    def _target(self, target: Target) -> list[str]:
        return [
            *("--python", self.python),
            *("--python-version", target.python),
            *("--python-platform", platform_of(target)),
            *("--only-binary", ":all:"),
            *(("--no-index",) if self._indexes().forbidden else ()),
            "--quiet",
        ]

    def _uv(
        self,
        arguments: list[str],
        directory: Path,
        env: Mapping[str, str],
        failed: Callable[[str], Exception],
    ) -> None:
        done = self._call(arguments, directory, env)
        if done.returncode:
            raise failed(done.stderr or done.stdout)

    def _call(
        self, arguments: list[str], directory: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        try:
            return captured(self.run, [str(self.executable), *arguments], env, directory)
        except OSError as error:
            raise ConfigurationError(
                f"uv cannot be run: {error.strerror}", remedy="install it beside dispatch: `pip install uv`"
            ) from error

    def _redacted(self, said: str, directory: Path, declared: Sequence[str]) -> str:
        text = said.replace(f"{directory}/", "").replace(str(directory), ".")
        return self._indexes().redact(text, declared)


def _local(name: str, wheel: Path) -> str:
    """Return the line of a wheel of this machine, with the hash that uv wants of every line."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name} @ {wheel.absolute().as_uri()} --hash=sha256:{digest}"


def _rename_minor(prefix: Path, python: str) -> None:
    """Give the directories of the client's own minor version the name of the target's."""
    for parent in (prefix / "lib", prefix / "include" / "site"):
        wanted = parent / f"python{python}"
        for found in sorted(parent.glob("python3.*")) if parent.is_dir() else []:
            if found != wanted:
                if wanted.exists():
                    raise ImageError(
                        f"{prefix} holds two Python versions", remedy="install into an empty prefix"
                    )
                found.rename(wanted)
    (prefix / "lib" / f"python{python}" / "site-packages").mkdir(parents=True, exist_ok=True)
    (prefix / "bin").mkdir(exist_ok=True)
