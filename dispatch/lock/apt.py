"""The door to a Debian archive: packages resolved to exact .debs, and .debs fetched, by apt.

Owns which mirror serves a suite: those of the host's own sources, tried in order, or the one that the
user names. apt checks the archive's signatures with the host's keyring, and takes proxies, certificates
and credentials from the host's apt settings. Mirrors appear in no message.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from dispatch.errors import ConfigurationError, DispatchError, ImageError
from dispatch.lock.aptroot import AptRoot, call, plain_address, private_root
from dispatch.lock.model import DebianPackage
from dispatch.lock.program import Run

MIRROR_VARIABLE = "DISPATCH_APT_MIRROR"
_HELPER = "/usr/lib/apt/apt-helper"
# Lines of `apt-get --print-uris`: 'address' file size hash.
_INDEX = re.compile(r"'([^'\s]+?)/dists/([^'\s]+?)/main/binary-[^']*' .*")
_DEB = re.compile(r"'([^'\s]+)' ([^\s_]+)_([^\s_]+)_([a-z0-9-]+)\.deb ([0-9]+) SHA256:([0-9a-f]{64})")
_FAILED = re.compile(r"E: Failed to fetch (\S+)\s+(.*)")
_SECONDARY = re.compile(r".*[-/](security|updates|backports.*|proposed.*)")
_NOT_THERE = re.compile(
    r"\b(404|410)\b|File not found|does not have a Release file|component main|not signed"
)
_CHUNK = 200

Say = Callable[[str], None]


@dataclass(frozen=True)
class Refusal:
    """A .deb that could not be fetched. ``gone``: the mirror answered, and has no such file any more."""

    package: DebianPackage
    gone: bool
    reason: str


@dataclass(frozen=True)
class Apt:
    """apt of this machine.

    ``environ`` is the caller's environment. ``mirror``, if given, replaces the host's sources: the address of
    the archive and, after a blank, that of its security archive (default: the same with ``-security``).
    """

    environ: Mapping[str, str]
    mirror: str | None = None
    run: Run = subprocess.run

    def mirrors(self, suite: str) -> tuple[str, ...]:
        """Return addresses that may serve a suite, the likeliest first; none where no source is known."""
        secondary = _SECONDARY.fullmatch(suite) is not None
        if self.mirror and self.mirror.strip():
            main, *more = self.mirror.replace(",", " ").split()
            security = more[0] if more else f"{main.rstrip('/')}-security"
            return ((security if suite.endswith(("-security", "/updates")) else main).rstrip("/"),)
        command = ["apt-get", "update", "--print-uris", "-o", "Debug::NoLocking=true"]
        lines = call(command, self.environ, self.run).stdout.splitlines()
        pairs = [(match[1], match[2]) for line in lines if (match := _INDEX.fullmatch(line))]
        exact = [base for base, served in pairs if served == suite]
        # A mirror of another release's suites carries this one, too, more often than not.
        likely = [base for base, served in pairs if (_SECONDARY.fullmatch(served) is not None) == secondary]
        return tuple(dict.fromkeys(base for base in [*exact, *likely] if not base.startswith("cdrom:")))

    def resolve(
        self, suites: Sequence[str], packages: Sequence[str], architecture: str, say: Say
    ) -> tuple[DebianPackage, ...]:
        """Resolve the suites' essential packages and ``packages`` to exact .debs, without recommendations.

        The first suite must be had; another one that no mirror serves is left out with a notice.
        ConfigurationError where no mirror is known for the first suite or the packages cannot be installed,
        ImageError where no mirror answers.
        """
        with private_root(self.environ, architecture, self.run) as root:
            chosen = self._choose(root, suites, say)
            command = ["apt-get", "install", "--quiet=2", "--yes", "--print-uris", "?essential", *packages]
            done = root.apt(command)
            if done.returncode:
                raise ConfigurationError(
                    f"packages cannot be installed from {', '.join(suites)}: "
                    f"{root.reason(done.stderr, [base for _, base in chosen])}",
                    remedy="correct `packages:` or `suites:` of the image",
                )
            return _parse_debs(done.stdout, chosen)

    def fetch(
        self, wanted: Sequence[DebianPackage], directory: Path, architecture: str
    ) -> tuple[Refusal, ...]:
        """Fetch .debs as ``directory/<sha256>.deb``; return those that could not be had, with the reason.

        apt checks each against its SHA-256. ConfigurationError where no mirror is known for a suite.
        """
        suites = dict.fromkeys(package.suite for package in wanted)
        mirrors = {suite: self.mirrors(suite) for suite in suites}
        for suite, bases in mirrors.items():
            if not bases:
                raise no_mirror(suite)
        left = {package.sha256: Refusal(package, False, "no answer") for package in wanted}
        with private_root(self.environ, architecture, self.run) as root:
            for attempt in range(max((len(bases) for bases in mirrors.values()), default=0)):
                items = [
                    (mirrors[package.suite][attempt], package)
                    for package in [refusal.package for refusal in left.values()]
                    if attempt < len(mirrors[package.suite])
                ]
                for start in range(0, len(items), _CHUNK):
                    chunk = items[start : start + _CHUNK]
                    refusals = {r.package.sha256: r for r in _fetch(root, chunk, directory)}
                    for _, package in chunk:
                        left.pop(package.sha256)
                    left.update(refusals)
        return tuple(left.values())

    def serves(self, suite: str, architecture: str) -> bool:
        """Whether a mirror of this machine serves the suite at the moment."""
        with private_root(self.environ, architecture, self.run) as root:
            return self._settle(root, [], suite)[0] is not None

    def _choose(self, root: AptRoot, suites: Sequence[str], say: Say) -> list[tuple[str, str]]:
        """Read the suites' indexes into ``root`` and return each suite with the mirror that serves it."""
        known = {suite: self.mirrors(suite) for suite in suites}
        if all(known.values()):
            likeliest = [(suite, bases[0]) for suite, bases in known.items()]
            reason = root.update(likeliest)
            if not reason:
                return likeliest
            if not _NOT_THERE.search(reason) and all(len(bases) == 1 for bases in known.values()):
                raise _no_answer(suites[0], reason)
        chosen: list[tuple[str, str]] = []
        for suite in suites:
            base, problem = self._settle(root, chosen, suite)
            if base:
                chosen.append((suite, base))
            elif chosen and not isinstance(problem, ImageError):
                say(f"suite {suite} is left out: no mirror of this machine serves it")
            else:
                raise problem
        if reason := root.update(chosen):
            raise _no_answer(suites[0], reason)
        return chosen

    def _settle(
        self, root: AptRoot, chosen: Sequence[tuple[str, str]], suite: str
    ) -> tuple[str | None, DispatchError]:
        """Return the first mirror whose signed index can be read beside those chosen, else why none can."""
        problem: DispatchError = no_mirror(suite)
        for base in self.mirrors(suite):
            reason = root.update([*chosen, (suite, base)])
            if not reason:
                return base, problem
            if not _NOT_THERE.search(reason):
                problem = _no_answer(suite, reason)
        return None, problem


def no_mirror(suite: str) -> ConfigurationError:
    """Return the error for a suite that nothing known to this machine serves."""
    return ConfigurationError(
        f"no Debian mirror for {suite} is known to this machine",
        remedy=f"name one: {MIRROR_VARIABLE}=http://…/debian (and, after a blank, its security archive), "
        "and install debian-archive-keyring",
    )


def _no_answer(suite: str, reason: str) -> ImageError:
    return ImageError(
        f"the Debian archive cannot be read for {suite}: {reason}",
        remedy="check the network, apt's proxy and certificate settings and its keyring "
        f"(debian-archive-keyring), or name another mirror by {MIRROR_VARIABLE}",
    )


def _fetch(root: AptRoot, items: Sequence[tuple[str, DebianPackage]], directory: Path) -> list[Refusal]:
    """Ask one mirror for each .deb; return those that did not come."""
    arguments: list[str] = []
    addresses: list[str] = []
    for base, package in items:
        address = f"{plain_address(base)}/{quote(package.path)}"
        addresses.append(unquote(address))
        arguments += [address, str(directory / f"{package.sha256}.deb"), f"SHA256:{package.sha256}"]
    bases = [base for base, _ in items]
    root.allow(bases)
    lines = root.apt([_HELPER, "--quiet=2", "download-file", *arguments]).stderr.splitlines()
    said = {unquote(match[1]): match[2] for line in lines if (match := _FAILED.fullmatch(line))}
    refusals = []
    for address, (_, package) in zip(addresses, items, strict=True):
        if not (directory / f"{package.sha256}.deb").is_file():
            reason = root.reason(said.get(address, ""), bases)
            refusals.append(Refusal(package, _NOT_THERE.search(reason) is not None, reason))
    return refusals


def _parse_debs(text: str, chosen: Sequence[tuple[str, str]]) -> tuple[DebianPackage, ...]:
    """Read the answer of ``apt-get install --print-uris``, sorted by name."""
    bases = [(suite, plain_address(base) + "/") for suite, base in chosen]
    packages = []
    for line in text.splitlines():
        match = _DEB.fullmatch(line.strip())
        suite, base = next(((s, b) for s, b in bases if match and match[1].startswith(b)), ("", ""))
        if match is None or not suite:
            raise ImageError(
                "apt's answer cannot be read: a package without SHA-256 or from an unknown place",
                remedy="report it, with the version of apt",
            )
        packages.append(
            DebianPackage(
                name=match[2],
                version=unquote(match[3]),
                architecture=match[4],
                sha256=match[6],
                size=int(match[5]),
                suite=suite,
                path=unquote(match[1][len(base) :]),
            )
        )
    return tuple(sorted(packages, key=lambda package: (package.name, package.architecture)))
