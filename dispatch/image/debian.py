"""A Debian base as a root file system: the locked .debs, nothing else, unpacked by mmdebstrap.

Owns the pool of fetched .debs and the tar, which is the same bit for bit on every machine, at any time and
from any mirror. Refuses to resolve anything: a package that the lock does not name is not installed, and
one that the archive has no longer makes the lock stale.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ImageError, LockError, StaleBaseError
from dispatch.lock import debian
from dispatch.lock.apt import Apt, Refusal, no_mirror
from dispatch.lock.aptroot import call
from dispatch.lock.model import DebianLock, DebianPackage
from dispatch.reporting import Reporter, measured, working

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# What the host, the assembly or a package's installation leaves behind and no step needs.
_DROPPED = re.compile(
    r"dev/.+|run/.+|tmp/.+|var/tmp/.+"
    r"|etc/(hostname|resolv\.conf|mtab|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)"
    r"|etc/apt/(sources\.list|sources\.list\.d/.+|.+/99mmdebstrap)|etc/dpkg/dpkg\.cfg\.d/99mmdebstrap"
    r"|var/lib/apt/.+|var/cache/(apt|ldconfig)/.+|var/cache/debconf/.+-old|var/lib/dpkg/.+-old"
    r"|var/lib/dpkg/(lock|lock-frontend|triggers/Lock)"
)
_LOGS = re.compile(r"var/log/.+")
# As Debian's own slim images: documentation goes, licences stay.
_DOCUMENTATION = re.compile(
    r"usr/share/(man|info|groff|lintian|linda|locale)/.+|usr/share/doc/[^/]+/(?!copyright$).+"
)
_MERGED = {"amd64": ("bin", "sbin", "lib", "lib64")}


@dataclass(frozen=True)
class DebianBuilder:
    """Makes root file systems from Debian locks.

    ``cache`` is our cache directory (the pool is ``debs/`` in it); ``environ`` the caller's environment, of
    which the assembly sees only PATH and TMPDIR; ``command`` is what a message names to renew a lock.
    """

    apt: Apt
    cache: Path
    environ: Mapping[str, str]
    run: Run = subprocess.run
    command: str = "dispatch lock"

    def build(self, name: str, lock: DebianLock, target: Path, report: Reporter) -> None:
        """Make the root file system of a lock as the tar ``target`` (written by rename).

        ``name`` is the image's, for messages. LockError where a locked .deb is no longer in the archive or
        is another file there; ImageError where the archive does not answer or the assembly fails;
        ConfigurationError where a tool is missing or no mirror is known.
        """
        pool = self.cache / "debs"
        try:
            self._fetch(name, lock, pool, report)
            with tempfile.TemporaryDirectory(prefix="dispatch-base-") as scratch:
                # mmdebstrap as another user than root works under a uid that is not ours.
                Path(scratch).chmod(0o755)
                repository = self._repository(lock, pool, Path(scratch) / "repository")
                raw = Path(scratch) / "raw.tar"
                report(f"{name}: assembling {len(lock.packages)} packages")
                with working(report, f"{name}: assembling"):
                    self._assemble(name, lock, repository, raw)
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.{os.getpid()}")
                try:
                    installed = normalise(raw, partial, lock.epoch)
                    _check_installed(name, lock, installed)
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
        except OSError as error:
            raise ImageError(
                f"image {name!r}: the base cannot be made: {error}", remedy="free or mend what it names"
            ) from error

    def _fetch(self, name: str, lock: DebianLock, pool: Path, report: Reporter) -> None:
        """Bring every .deb of the lock into the pool, where a file's name is its SHA-256."""
        pool.mkdir(parents=True, exist_ok=True)
        missing = [package for package in lock.packages if not _fits(pool / f"{package.sha256}.deb", package)]
        if not missing:
            return
        size = sum(package.size for package in missing)
        report(f"{name}: fetching {len(missing)} of {len(lock.packages)} packages, {size / 1e6:.0f} MB")
        with (
            tempfile.TemporaryDirectory(prefix=".incoming-", dir=pool) as incoming,
            working(report, f"{name}: fetching", size) as task,
        ):
            with measured(task, lambda: _size(Path(incoming))):
                refusals = self.apt.fetch(missing, Path(incoming), lock.architecture)
            refused = {refusal.package.sha256 for refusal in refusals}
            for package in missing:
                path = Path(incoming) / f"{package.sha256}.deb"
                if package.sha256 in refused:
                    continue
                if not _fits(path, package):
                    raise self._mismatch(name, package, "its SHA-256 or size differs")
                path.replace(pool / path.name)
        if refusals:
            raise self._refused(name, lock, refusals, len(missing))

    def _refused(self, name: str, lock: DebianLock, refusals: Sequence[Refusal], asked: int) -> Exception:
        first = refusals[0].package
        for refusal in refusals:
            if "ash Sum mismatch" in refusal.reason or "unexpected size" in refusal.reason:
                return self._mismatch(name, refusal.package, refusal.reason)
        if not all(refusal.gone for refusal in refusals):
            unanswered = next(refusal for refusal in refusals if not refusal.gone)
            return ImageError(
                f"image {name!r}: the Debian archive does not answer for {unanswered.package.name}: "
                f"{unanswered.reason}",
                remedy="check the network and apt's proxy and certificate settings, then build again",
            )
        # Nothing at all was there: perhaps the mirror is not one of Debian's.
        if len(refusals) == asked and not self.apt.serves(first.suite, lock.architecture):
            return no_mirror(first.suite)
        others = f" and {len(refusals) - 1} more" if len(refusals) > 1 else ""
        return StaleBaseError(
            f"image {name!r}: stale lock: {first.name} {first.version}{others} is no longer in the archive",
            remedy=f"renew it with `{self.command}`",
        )

    def _mismatch(self, name: str, package: DebianPackage, reason: str) -> LockError:
        return LockError(
            f"image {name!r}: the download of {package.name} {package.version} does not match the lock: "
            f"{reason} (expected sha256:{package.sha256})",
            remedy="the mirror serves another file than the one locked: find out why before you renew the "
            f"lock with `{self.command}`",
        )

    def _repository(self, lock: DebianLock, pool: Path, directory: Path) -> Path:
        """Make a flat archive that holds exactly the locked packages (deb822 index, sources.list(5))."""
        directory.mkdir()
        directory.chmod(0o755)
        stanzas = []
        for package in lock.packages:
            source, shown = pool / f"{package.sha256}.deb", directory / f"{package.sha256}.deb"
            try:
                shown.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, shown)
            control = call(["dpkg-deb", "--field", str(source)], self.environ, self.run)
            if control.returncode:
                raise ImageError(
                    f"{package.name} {package.version} is not a Debian package", remedy=f"remove {source}"
                )
            stanzas.append(
                f"{control.stdout.strip()}\nFilename: ./{shown.name}\nSize: {package.size}\n"
                f"SHA256: {package.sha256}\n"
            )
        (directory / "Packages").write_text("\n".join(stanzas), encoding="utf-8")
        for path in (*directory.iterdir(), directory / "Packages"):
            if path.stat().st_mode & 0o444 != 0o444:
                path.chmod(0o644)
        return directory

    def _assemble(self, name: str, lock: DebianLock, repository: Path, raw: Path) -> None:
        names = {package.name for package in lock.packages}
        hooks: list[str] = []
        if "usr-is-merged" in names:
            links = " ".join(_MERGED.get(lock.architecture, ("bin", "sbin", "lib")))
            hooks = [
                f'--setup-hook=for d in {links}; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d"; done'
            ]
        hooks += _recompiling(lock)
        env = {key: self.environ[key] for key in ("PATH", "TMPDIR") if key in self.environ}
        env.update(SOURCE_DATE_EPOCH=str(lock.epoch), TZ="UTC", HOME="/root")
        env.update(DEBIAN_FRONTEND="noninteractive", DEBCONF_NONINTERACTIVE_SEEN="true")
        done = call(
            [
                "mmdebstrap",
                f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
                "--variant=essential",
                f"--architectures={lock.architecture}",
                f"--include={','.join(sorted(names))}",
                "--format=tar",
                *hooks,
                "",
                str(raw),
                f"deb [trusted=yes] copy:{repository} ./",
            ],
            env,
            self.run,
        )
        if done.returncode:
            lines = [
                line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg: error", "W: "))
            ]
            said = " ".join(lines[-6:]) or done.stderr.strip()[-500:]
            raise ImageError(
                f"image {name!r}: mmdebstrap failed: {said}",
                remedy="it needs root, or unprivileged user namespaces with subordinate ids (`apt-get "
                "install uidmap`), and a TMPDIR where programs and devices may be used",
            )


def _recompiling(lock: DebianLock) -> list[str]:
    """Return the hook that compiles an older Python's library again, with one hash seed.

    Before 3.11, compiled sets are in the order of their hashes, and the packages' own scripts compile with
    ``-E``, so that no variable could tell them the seed.
    """
    minor = debian.base_facts("", lock).python
    if minor is None or tuple(map(int, minor.split("."))) >= (3, 11):
        return []
    python = f"python{minor} -S -m compileall -qq -f /usr/lib/python{minor} /usr/lib/python3/dist-packages"
    return [f'--customize-hook=chroot "$1" env PYTHONHASHSEED=0 {python}']


def _size(directory: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _fits(path: Path, package: DebianPackage) -> bool:
    try:
        if path.stat().st_size != package.size:
            return False
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == package.sha256


def normalise(raw: Path, target: Path, epoch: int) -> str:
    """Rewrite a root file system's tar so that nothing of the machine it was made on is left in it.

    Entries stay in order (mmdebstrap sorts by name); times are cut to ``epoch``; extended attributes
    (capabilities) are kept; owners are numbers alone. Returns the text of dpkg's status file.
    """
    status = ""
    attributes: dict[str, dict[str, str]] = {}
    with tarfile.open(raw, "r:") as source, tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as sink:
        for member in source:
            path = member.name.removeprefix("./").rstrip("/")
            logs = _LOGS.fullmatch(path) and not member.isdir()
            if path in ("", ".") or logs or _DROPPED.fullmatch(path) or _DOCUMENTATION.fullmatch(path):
                continue
            member.name = path
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            member.mtime = min(int(member.mtime), epoch)
            member.uname = member.gname = ""
            member.pax_headers = {
                key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
            }
            attributes[path] = member.pax_headers
            if member.islnk():
                # An engine sets the owner of every name, which takes a capability from the file.
                member.pax_headers = attributes.get(member.linkname, {})
            content = source.extractfile(member) if member.isreg() else None
            sink.addfile(member, content)
            if path == "var/lib/dpkg/status":
                kept = source.extractfile(member)
                status = kept.read().decode("utf-8") if kept else ""
    return status


def _check_installed(name: str, lock: DebianLock, status: str) -> None:
    """Hold that what dpkg says is installed is the lock, no more and no less."""
    found = set()
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status|Architecture): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status") == "install ok installed":
            found.add((fields["Package"], fields["Version"], fields["Architecture"]))
    wanted = {(package.name, package.version, package.architecture) for package in lock.packages}
    if found != wanted:
        names = sorted({package for package, _, _ in found ^ wanted})
        raise ImageError(
            f"image {name!r}: the assembled base is not what its lock says: {', '.join(names[:6])}",
            remedy="renew the lock; report it if that does not help",
        )
