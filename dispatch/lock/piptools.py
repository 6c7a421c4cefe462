"""The door to pip-tools: resolving requirements to exact packages, for those who prefer pip's own resolver.

Owns its command line, its environment and its messages. pip resolves for the interpreter it runs with, so
one of the target's minor version is looked for; a glibc older than this machine's is told to it by the module
that PEP 600 provides for that. Refuses targets that no interpreter of this machine can stand for.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ConfigurationError, DispatchError, ImageError
from dispatch.lock.index import Indexes
from dispatch.lock.model import PipPin, Target
from dispatch.lock.program import Run, captured
from dispatch.lock.resolving import Question

# What pip-tools imports, as it is installed beside us: all of it is plain Python, for any minor version.
_MODULES = ("piptools", "pip", "build", "click", "packaging", "pyproject_hooks", "setuptools", "wheel")
_OPTIONAL = ("tomli", "importlib_metadata", "zipp", "_distutils_hack", "pkg_resources")
_MANYLINUX = """\
def manylinux_compatible(major, minor, arch):
    return (major, minor) <= ({major}, {minor})
"""
_ASK = """\
import json, os, platform, sys
libc = os.confstr("CS_GNU_LIBC_VERSION").split()[-1]
print(json.dumps(["%d.%d" % sys.version_info[:2], libc, platform.machine()]))
"""
# pip's settings that say where and what to install, not where packages come from.
_DROPPED = re.compile(
    r"PIP_(REQUIREMENT|TARGET|PREFIX|ROOT|USER|EDITABLE|REQUIRE_HASHES|REQUIRE_VIRTUALENV|NO_DEPS|PYTHON|REPORT"
    r"|NO_BINARY|ONLY_BINARY|LOG|UPGRADE|QUIET|VERBOSE|TOOLS_.*)|PYTHON.*"
)
# The name of a release's file: a wheel's, or that of a source distribution.
_CAUSE = re.compile(
    r"RequirementInformation\(requirement=\w+\('([^']*)'[^)]*\), "
    r"parent=(?:None|\w+\('[^']*/([A-Za-z0-9_.]+?)-([A-Za-z0-9_.!+]+?)(?:-[^/']*|\.tar\.gz|\.zip)'[^)]*\)|[^)]*\))\)"
)
_ABSENT = re.compile(r"No matching distribution found for ([A-Za-z0-9][A-Za-z0-9._-]*)([^\s(]*)")
_NETWORK = re.compile(
    r"Max retries exceeded|Failed to establish a new connection|NewConnectionError|Connection refused"
    r"|timed out|Temporary failure in name resolution|SSLError|CERTIFICATE_VERIFY_FAILED"
)


@dataclass(frozen=True)
class PipTools:
    """pip-compile, as this machine's settings have it; ``environ`` is the caller's environment."""

    environ: Mapping[str, str]
    run: Run = subprocess.run
    python: str = sys.executable

    def compile(self, question: Question) -> tuple[PipPin, ...]:
        """Resolve requirements to exact packages, sorted by name; wheels only, but for ``sdists``.

        ConfigurationError where the requirements cannot be met, or no interpreter of this machine can stand
        for the target; ImageError where the index does not answer.
        """
        interpreter = self._interpreter(question.target)
        with tempfile.TemporaryDirectory(prefix="dispatch-lock-") as name:
            directory = Path(name)
            path = directory / "modules"
            _offer_modules(path, question.target)
            command = [interpreter, "-s", "-m", "piptools", "compile", *_ALWAYS]
            command += ["--pre"] if question.requirements.prereleases else []
            env = self._env(path)
            arguments = question.write(directory, (*_indexes(question), *_formats(question)))
            self._compile([*command, *_upgrades(question), *arguments], directory, env, question)
            # The versions are found. Once more for their hashes, as pip names those of allowed forms only.
            lines = [*_indexes(question), *question.requirements.lines]
            (directory / "requirements.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
            self._compile([*command, "--generate-hashes", *arguments], directory, env, question)
            return question.answer(directory, "pip-tools")

    def _compile(
        self, command: list[str], directory: Path, env: Mapping[str, str], question: Question
    ) -> None:
        done = self._call([*command, "requirements.in"], directory, env)
        if done.returncode:
            said = done.stderr.replace(f"{directory}/", "").replace(str(directory), ".")
            raise self._translate(said, question)

    def _interpreter(self, target: Target) -> str:
        """Return the interpreter to resolve with: ours, or one of the target's minor version on PATH."""
        import shutil

        beside = shutil.which(f"python{target.python}", path=self.environ.get("PATH"))
        answers = {each: self._ask(each) for each in (self.python, beside) if each}
        for interpreter, (python, glibc, machine) in answers.items():
            if python != target.python:
                continue
            if machine != target.architecture or _parts(glibc) < _parts(target.glibc):
                raise ConfigurationError(
                    f"pip-tools resolves for this machine ({machine}, glibc {glibc}) and not for {target}",
                    "leave `resolver: pip-tools` out: uv resolves for any machine",
                )
            return interpreter
        raise ConfigurationError(
            f"pip-tools resolves for the Python it runs with, and there is no python{target.python} here",
            f"leave `resolver: pip-tools` out, or install Python {target.python}",
        )

    def _ask(self, interpreter: str) -> tuple[str, str, str]:
        done = self._call([interpreter, "-I", "-c", _ASK], Path("/"), dict(self.environ))
        try:
            python, glibc, machine = json.loads(done.stdout)
        except ValueError:
            return "", "0", ""
        return str(python), str(glibc), str(machine)

    def _env(self, modules: Path) -> dict[str, str]:
        kept = {key: value for key, value in self.environ.items() if not _DROPPED.fullmatch(key)}
        fixed = {"PYTHONPATH": str(modules), "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if Indexes.of(self.environ).settings.get("retries") == "0":
            # Only of what it tries again does pip say that it failed: else a dead index has no packages.
            fixed["PIP_RETRIES"] = "1"
        return {**kept, **fixed, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "1000"}

    def _call(
        self, command: list[str], directory: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        try:
            return captured(self.run, command, env, directory)
        except OSError as error:
            raise ConfigurationError(
                f"pip-tools cannot be run with {command[0]}: {error.strerror}", "mend this interpreter"
            ) from error

    def _translate(self, said: str, question: Question) -> DispatchError:
        text = Indexes.of(self.environ).redact(said, question.requirements.indexes)
        what = question.requirements.path
        if _NETWORK.search(text):
            return ImageError(
                f"{what}: the package index does not answer: {_last(text)}",
                "check the network, and the proxy, certificate and index settings (PIP_*, pip.conf)",
            )
        causes = _causes(said) if "conflicting dependencies" in text else []
        if causes:
            return ConfigurationError(
                f"{what}: the requirements cannot be met together: {', and '.join(causes)}",
                "loosen one of the requirements named",
            )
        if match := _ABSENT.search(text):
            return ConfigurationError(
                f"{what}: no release of package {match[1]}{match[2]} fits {question.target}, or it is in no "
                "package index",
                "check its spelling and version; only what `sdists:` names is built from source",
            )
        return ImageError(f"{what}: pip-tools failed: {_last(text)}", "mend what it names")


_ALWAYS = (
    "--no-config",
    "--allow-unsafe",
    "--strip-extras",
    "--no-header",
    "--no-emit-options",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--resolver=backtracking",
    "--output-file=known.txt",
)


def _indexes(question: Question) -> tuple[str, ...]:
    requirements = question.requirements
    default = (f"--index-url {requirements.index_url}",) if requirements.index_url else ()
    return (*default, *(f"--extra-index-url {address}" for address in requirements.extra_index_urls))


def _formats(question: Question) -> tuple[str, ...]:
    return ("--only-binary :all:", *(f"--no-binary {name}" for name in question.sdists))


def _upgrades(question: Question) -> list[str]:
    everything = ["--upgrade"] if question.upgrade.everything else []
    return everything + [word for name in question.upgrade.packages for word in ("--upgrade-package", name)]


def _offer_modules(directory: Path, target: Target) -> None:
    """Make a directory from which any interpreter imports pip-tools, and learns of the target's glibc."""
    directory.mkdir()
    for name in (*_MODULES, *_OPTIONAL):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            if name in _MODULES:
                raise ConfigurationError(
                    f"pip-tools is not installed: {name} is missing", "install pip-tools"
                )
            continue
        origin = Path(found.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (directory / origin.name).symlink_to(origin)
        for info in origin.parent.glob(f"{name.replace('piptools', 'pip_tools')}-*.dist-info"):
            if not (directory / info.name).exists():
                (directory / info.name).symlink_to(info)
    major, minor = _parts(target.glibc)
    text = _MANYLINUX.replace("{major}", str(major)).replace("{minor}", str(minor))
    (directory / "_manylinux.py").write_text(text, encoding="utf-8")


def _causes(said: str) -> list[str]:
    """Return who asks for what, of the requirements that exclude each other."""
    found = [(match[1], match[2] and f"{match[2]} {match[3]}") for match in _CAUSE.finditer(said)]
    return list(dict.fromkeys(f"{by or 'you'} need{'s' if by else ''} {wanted}" for wanted, by in found))


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it said nothing"


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
