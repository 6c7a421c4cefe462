"""The door to conda-lock: conda specifications → exact packages with hashes, for one platform.

Owns its command line and its files, the choice of the conda executable that it works with (the user's conda,
mamba or micromamba, else ``dispatch-conda-solver``), and the check of packages in local channels, of which no
index vouches. Refuses to guess: virtual packages are those it is given, never those of a machine.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dispatch.errors import ConfigurationError, ImageError, LockError
from dispatch.lock.channels import Channels, is_path
from dispatch.lock.condacomplaint import Failure, translate
from dispatch.lock.condainputs import Inputs
from dispatch.lock.condasolver import KEEP, NAME
from dispatch.lock.model import CondaPackage
from dispatch.lock.program import Run, captured

CHOICE = "DISPATCH_CONDA"
_PROGRAMS = ("conda", "mamba", "micromamba")
# What would change the answer behind our back, or what conda-lock sets itself.
_NOT_PASSED = (
    "CONDA_OVERRIDE_",
    "CONDA_FLAGS",
    "CONDA_SUBDIR",
    "CONDA_LOCK_",
    "CONDA_PKGS_DIRS",
    "RUNNER_TEMP",
)

# Where conda looks for a bundle of certificates; py-rattler looks at SSL_CERT_FILE.
_BUNDLES = ("CONDA_SSL_VERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class CondaLockTool:
    """conda-lock, as this machine's settings have it.

    ``environ`` is the caller's environment; ``cache`` is a directory of ours for channels' indexes.
    ``python`` is the interpreter that has conda-lock and py-rattler.
    """

    environ: Mapping[str, str]
    cache: Path
    run: Run = subprocess.run
    python: str = sys.executable

    def lock(self, wanted: Inputs, keep: Sequence[CondaPackage] = ()) -> tuple[CondaPackage, ...]:
        """Resolve to the exact packages, sorted by name; of ``keep`` what still fits and is still there.

        ConfigurationError where the specifications cannot be met, ImageError where a channel does not answer,
        LockError where a local channel holds another file than its index says.
        """
        channels = Channels.of(self.environ)
        with tempfile.TemporaryDirectory(prefix="dispatch-conda-") as name:
            directory = Path(name)
            locked, solved = self._locked(wanted, keep, channels, directory)
        found = []
        for entry in locked:
            record = {**solved.get(entry["name"], {}), "url": entry["url"]}
            found.append(self._package(wanted, channels, entry, record))
        return tuple(sorted(found, key=lambda package: package.name))

    def _locked(
        self, wanted: Inputs, keep: Sequence[CondaPackage], channels: Channels, directory: Path
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """Run conda-lock; return the packages of its lock, and what the solver says of each by name."""
        program, own = self._program()
        answers = directory / "answers"
        answers.mkdir()
        addresses = _for_conda(wanted, channels)
        _write(directory / "environment.yml", {"channels": addresses, "dependencies": list(wanted.specs)})
        subdirs = {wanted.platform: {"packages": dict(wanted.virtual)}}
        _write(directory / "virtual.yml", {"subdirs": subdirs})
        # Without it the names of the package index's packages are fetched from elsewhere.
        _write(directory / "names.json", {})
        _write(directory / "keep.json", [_kept(package) for package in keep])
        pins = [] if own else [[each.name, f"{each.name}={each.version}={each.build}"] for each in keep]
        relay = {"program": program, "answers": str(answers), "pins": pins}
        _write(directory / "relay.json", relay)
        executable = _executable(directory, Path(program[0]).name if not own else NAME, self.python)
        done = self._call(wanted.platform, executable, directory, keeping=own)
        if done.returncode:
            failure = Failure.of(answers, done.stderr or done.stdout)
            raise translate(
                failure,
                str(wanted.path),
                lambda said: channels.redact(said, wanted.channels, wanted.path.parent),
            )
        return _answer(directory)

    def _call(
        self, platform: str, executable: Path, directory: Path, keeping: bool
    ) -> subprocess.CompletedProcess[str]:
        arguments = ["lock", "--conda", str(executable), "--no-mamba", "--no-micromamba"]
        arguments += ["--platform", platform, "--file", "environment.yml", "--lockfile", "conda-lock.yml"]
        arguments += ["--virtual-package-spec", "virtual.yml", "--log-level", "WARNING"]
        arguments += ["--pypi_to_conda_lookup_file", (directory / "names.json").as_uri()]
        env = {k: v for k, v in self.environ.items() if not k.startswith(_NOT_PASSED)}
        env.update(RATTLER_CACHE_DIR=str(self.cache), DISPATCH_CONDA_RELAY=str(directory / "relay.json"))
        env.update(LC_ALL="C.UTF-8", PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1")
        if keeping:
            env[KEEP] = str(directory / "keep.json")
            bundles = [env.get(each) for each in _BUNDLES]
            found = next((each for each in bundles if each and Path(each).is_file()), None)
            env |= {"SSL_CERT_FILE": found} if found and not env.get("SSL_CERT_FILE") else {}
        try:
            return captured(self.run, [self.python, "-m", "conda_lock", *arguments], env, directory)
        except OSError as error:
            raise ConfigurationError(
                f"conda-lock cannot be run: {error.strerror}", remedy="install it beside dispatch"
            ) from error

    def _program(self) -> tuple[list[str], bool]:
        """Return the conda executable to work with, and whether it is our own."""
        own = [self.python, "-m", "dispatch.lock.condasolver"]
        chosen = self.environ.get(CHOICE, "")
        path = self.environ.get("PATH")
        if chosen == NAME:
            return own, True
        if chosen:
            found = shutil.which(chosen, path=path)
            if found is None:
                raise ConfigurationError(
                    f"{CHOICE} names {chosen}, which is not to be found",
                    remedy=f"name a conda, mamba or micromamba, or {NAME}, or unset it",
                )
            return [found], False
        candidates = [shutil.which(each, path=path) for each in _PROGRAMS]
        candidates += [self.environ.get("CONDA_EXE"), self.environ.get("MAMBA_EXE")]
        found = next((each for each in candidates if each and Path(each).is_file()), None)
        return ([found], False) if found else (own, True)

    def _package(
        self, wanted: Inputs, channels: Channels, entry: Mapping[str, Any], record: Mapping[str, Any]
    ) -> CondaPackage:
        address = str(record["url"])
        place = channels.place(address, wanted.channels, wanted.path.parent)
        if place is None:
            raise ImageError(
                f"{wanted.path}: {entry['name']} comes from a channel that is not among those it names",
                remedy="name its channel under `channels:`, before the others",
            )
        depends = tuple(str(each) for each in record.get("depends") or ())
        build = str(record.get("build_string") or record.get("build") or _build_of(place.file))
        noarch = _noarch(place.subdir, record.get("noarch"), depends)
        size, sha256 = _content(wanted, address, record, entry)
        return CondaPackage(
            name=str(entry["name"]),
            version=str(entry["version"]),
            build=build,
            channel=place.channel,
            subdir=place.subdir,
            file=place.file,
            sha256=sha256,
            size=size,
            noarch=noarch,
            depends=depends,
        )


def _for_conda(wanted: Inputs, channels: Channels) -> list[str]:
    """Return the channels as the executable is told of them: by name, since it knows the same settings."""
    told = []
    for channel in wanted.channels:
        places = channels.addresses(channel, wanted.path.parent)
        told.append(places[0] if is_path(channel) else channel)
    return told


def _executable(directory: Path, name: str, python: str) -> Path:
    """Write the executable for conda-lock; it is named as the real one, since conda-lock goes by that."""
    path = directory / "bin" / name
    path.parent.mkdir()
    relay = Path(__file__).with_name("condarelay.py")
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -I {shlex.quote(str(relay))} "$@"\n', "utf-8")
    path.chmod(0o755)
    return path


def _answer(directory: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    # The one reader of YAML stands above the locks; it knows nothing of settings.
    from dispatch.settings.document import read_document

    try:
        content = read_document(directory / "conda-lock.yml").content
        solved = json.loads((directory / "answers" / "solved.json").read_text("utf-8"))
        locked = [each for each in content["package"] if not each["name"].startswith("__")]
        return locked, {each["name"]: each for each in solved}
    except (ConfigurationError, OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"conda-lock's answer cannot be read: {error}", remedy="report it, with the version of conda-lock"
        ) from error


def _content(
    wanted: Inputs, address: str, record: Mapping[str, Any], entry: Mapping[str, Any]
) -> tuple[int, str]:
    """Return size and SHA-256 of a package; of a local one they are measured, since nobody else does."""
    size = int(record.get("size") or 0)
    sha256 = str(entry["hash"].get("sha256") or record.get("sha256") or "")
    parts = urlsplit(address)
    if parts.scheme == "file":
        size, measured = _measured(Path(unquote(parts.path)), wanted)
        if sha256 and measured != sha256:
            raise LockError(
                f"{wanted.path}: {entry['name']}: the channel holds another file than its index says "
                f"(expected {sha256}, got {measured})",
                remedy="find out why, and index the channel anew",
            )
        return size, measured
    if not sha256:
        raise ImageError(
            f"{wanted.path}: the channel gives no SHA-256 of {entry['name']} {entry['version']}",
            remedy="index the channel anew, or ask for a newer version",
        )
    return size, sha256


def _measured(path: Path, wanted: Inputs) -> tuple[int, str]:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
            return stream.tell(), digest.hexdigest()
    except OSError as error:
        raise LockError(
            f"{wanted.path}: {path.name} is in the channel's index, and cannot be read: {error.strerror}",
            remedy="put the file back, or index the channel anew",
        ) from error


def _build_of(file: str) -> str:
    return file.removesuffix(".conda").removesuffix(".tar.bz2").rpartition("-")[2]


def _noarch(subdir: str, said: object, depends: Sequence[str]) -> str:
    if subdir != "noarch":
        return ""
    if said in ("python", "generic"):
        return str(said)
    return "python" if any(each.split(" ")[0] == "python" for each in depends) else "generic"


def _kept(package: CondaPackage) -> dict[str, str]:
    return {"name": package.name, "fn": package.file, "sha256": package.sha256}


def _write(path: Path, content: object) -> None:
    # JSON is YAML, and needs no other writer.
    path.write_text(json.dumps(content), "utf-8")
