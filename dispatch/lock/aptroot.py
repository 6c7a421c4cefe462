"""A private root for apt: empty package state, the host's network settings and keys, none of its hooks.

Owns apt's configuration and command lines. Nothing of the host changes, and what apt says is shown without
the addresses of mirrors and proxies, which are this machine's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from dispatch.errors import ConfigurationError
from dispatch.lock.program import Run, captured

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_KEPT = re.compile(r"Acquire::(?!IndexTargets|Changelogs|cdrom|Languages|GzipIndexes|CompressionTypes).*")

_NOISE = re.compile(r"W:|E: Some index files failed to download")


def call(arguments: Sequence[str], env: Mapping[str, str], run: Run) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs, in English; ConfigurationError where it is not installed."""
    search = f"{env.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin".lstrip(":")
    if not shutil.which(arguments[0], path=search):
        raise ConfigurationError(
            f"{Path(arguments[0]).name} is missing: a Debian base is made with apt and mmdebstrap",
            remedy="on Debian or Ubuntu: `apt-get install mmdebstrap`; elsewhere name another base",
        )
    return captured(run, arguments, {**env, "PATH": search, "LC_ALL": "C.UTF-8"})


def plain_address(base: str) -> str:
    """Return the address of a mirror without user and password."""
    parts = urlsplit(base)
    host = parts.netloc.rpartition("@")[2]
    return (
        urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")) if parts.netloc else base.rstrip("/")
    )


@dataclass(frozen=True)
class AptRoot:
    """A private root that is there; ``hosts`` are names that no message may show."""

    directory: Path
    env: Mapping[str, str]
    run: Run
    hosts: frozenset[str]

    def apt(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run one of apt's programs in this root."""
        return call(arguments, self.env, self.run)

    def update(self, chosen: Sequence[tuple[str, str]]) -> str:
        """Read the signed indexes of (suite, mirror) pairs; return why that failed, or an empty string."""
        sources = "".join(f"deb {plain_address(base)} {suite} main\n" for suite, base in chosen)
        (self.directory / "sources.list").write_text(sources, encoding="utf-8")
        self.allow([base for _, base in chosen])
        done = self.apt(["apt-get", "update", "--quiet=2", "-o", "APT::Update::Error-Mode=any"])
        if done.returncode:
            return self.reason(done.stderr, [base for _, base in chosen])
        lists = self.directory / "lists"
        for suite, _ in chosen:
            if not any(lists.glob(f"*_dists_{suite.replace('/', '_')}_main_*")):
                return f"{suite} has no component main"
        return ""

    def allow(self, bases: Sequence[str]) -> None:
        """Keep the credentials of mirrors in a file: arguments can be seen by every user of the machine."""
        logins = set()
        for base in bases:
            parts = urlsplit(base)
            if parts.username or parts.password:
                user, password = unquote(parts.username or ""), unquote(parts.password or "")
                logins.add(f"machine {plain_address(base)} login {user} password {password}\n")
        path = self.directory / "netrc" / "dispatch.conf"
        path.touch(mode=0o600)
        path.write_text("".join(sorted(logins)), encoding="utf-8")

    def reason(self, said: str, bases: Sequence[str]) -> str:
        """Return apt's message in one line, without the names of mirrors and proxies."""
        lines = [line.removeprefix("E: ").strip() for line in said.splitlines() if not _NOISE.match(line)]
        text = re.sub(r"\S+:/\S+", "<mirror>", " ".join(line for line in lines if line))
        text = re.sub(r"\s*\[IP:[^\]]*\]", "", text)
        for host in sorted(self.hosts | {urlsplit(base).hostname or "" for base in bases} - {""}, key=len):
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "<mirror>", text)
        return text or "no answer"


@contextmanager
def private_root(environ: Mapping[str, str], architecture: str, run: Run) -> Iterator[AptRoot]:
    """Make a private root for the time of a ``with`` block."""
    settings = call(["apt-config", "dump", "Acquire"], environ, run).stdout.splitlines()
    kept = [line for line in settings if _KEPT.fullmatch(line)]
    addresses = [address for line in kept for address in re.findall(r'"([a-z]+://[^"]+)"', line)]
    with tempfile.TemporaryDirectory(prefix="dispatch-apt-") as name:
        directory = Path(name)
        for part in ("lists/partial", "cache/archives/partial", "trusted", "netrc"):
            (directory / part).mkdir(parents=True)
        for part in ("status", "sources.list"):
            (directory / part).touch()
        keys = [_KEYRING, *sorted(Path("/etc/apt/trusted.gpg.d").glob("*"))]
        logins = [Path("/etc/apt/auth.conf"), *sorted(Path("/etc/apt/auth.conf.d").glob("*.conf"))]
        for kind, found in (("trusted", keys), ("netrc", logins)):
            for path in found:
                if path.is_file():
                    (directory / kind / path.name).symlink_to(path)
        config = directory / "apt.conf"
        config.touch(mode=0o600)
        config.write_text("\n".join([*kept, _configuration(directory, architecture)]), encoding="utf-8")
        hosts = frozenset(host for address in addresses if (host := urlsplit(address).hostname))
        yield AptRoot(directory, {**environ, "APT_CONFIG": str(config)}, run, hosts)


def _configuration(directory: Path, architecture: str) -> str:
    """Return apt's settings for a private root (apt.conf(5))."""
    return f"""\
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "{directory}/trusted";
Dir::Etc::netrc "/dev/null";
Dir::Etc::netrcparts "{directory}/netrc";
Dir::State "{directory}";
Dir::State::lists "{directory}/lists";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
pkgCacheGen::ForceEssential ",";
Debug::NoLocking "true";
"""
