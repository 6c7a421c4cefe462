"""Debian locks: the file, what makes it stale, what it tells of the base, and which mirrors are asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.assets import images
from dispatch.environment import DebianImage, Environment, PipImage
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock.apt import Apt
from dispatch.lock.aptroot import call, plain_address
from dispatch.lock.debian import base_facts, read_debian, render, renew_debian
from dispatch.lock.model import BaseFacts, DebianLock, DebianPackage
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section

EPOCH = 1735689600
PACKAGES = tuple(
    DebianPackage(name, version, "amd64", digit * 64, 1000, suite, f"pool/main/x/{name}_{version}_amd64.deb")
    for name, version, digit, suite in (
        ("libc6", "2.36-9+deb12u14", "a", "bookworm"),
        ("openssl", "1:3.0.22-1~deb12u2", "b", "bookworm-security"),
        ("python3", "3.11.2-1+b1", "c", "bookworm"),
    )
)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A base that asks for Python."""
    suites = ("bookworm", "bookworm-security")
    declaration = DebianImage(suites, ("python3",), "amd64", EPOCH, tmp_path / "image.lock", "3.11")
    return Environment("base", declaration, tmp_path / "image.yml")


class FakeApt(Apt):
    """An archive that resolves everything to the packages above."""

    def resolve(
        self, suites: object, packages: object, architecture: str, say: Callable[[str], None]
    ) -> tuple[DebianPackage, ...]:
        """Return the packages above."""
        del suites, packages, architecture
        say("resolved")
        return PACKAGES


def locked(environment: Environment) -> DebianLock:
    """Renew and read."""
    renew_debian(environment, FakeApt({}), lambda _: None)
    return read_debian(environment)


def test_round_trip(environment: Environment) -> None:
    """What is written is read back; renewing with the same archive changes nothing."""
    lock = locked(environment)
    assert lock.packages == PACKAGES
    assert not renew_debian(environment, FakeApt({}), lambda _: None).changed
    assert environment.declaration.lock.read_text() == render(lock)  # type: ignore[union-attr]


def test_digest_is_of_the_content(environment: Environment) -> None:
    """The digest follows versions, hashes and the epoch; not where an archive keeps a file."""
    lock = locked(environment)
    moved = tuple(replace(package, path=f"pool/{package.name}.deb", suite="other") for package in PACKAGES)
    assert replace(lock, packages=tuple(reversed(moved))).digest == lock.digest
    assert replace(lock, epoch=EPOCH + 1).digest != lock.digest
    assert (
        replace(lock, packages=(*PACKAGES[1:], replace(PACKAGES[0], sha256="d" * 64))).digest != lock.digest
    )


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"suites": ("trixie",)}, "its suites were bookworm bookworm-security, now they are trixie"),
        ({"packages": ("python3", "tzdata")}, "it does not hold tzdata"),
        ({"packages": ()}, "its declaration changed"),
        ({"epoch": EPOCH + 1}, "its declaration changed"),
        ({"architecture": "arm64"}, "its declaration changed"),
    ],
)
def test_stale(environment: Environment, change: dict[str, object], fact: str) -> None:
    """A lock of another declaration says what changed and how to renew it."""
    locked(environment)
    declaration = replace(environment.declaration, **change)  # type: ignore[arg-type]
    with pytest.raises(LockError, match="is stale") as caught:
        read_debian(replace(environment, declaration=declaration), "dispatch lock --image base")
    assert fact in caught.value.message
    assert "`dispatch lock --image base`" in caught.value.remedy


def test_order_of_packages_is_free(environment: Environment) -> None:
    """In which order the declaration lists packages makes no lock stale."""
    declaration = replace(environment.declaration, packages=("libc6", "python3"))  # type: ignore[arg-type]
    environment = replace(environment, declaration=declaration)
    locked(environment)
    swapped = replace(declaration, packages=("python3", "libc6"))  # type: ignore[arg-type]
    assert read_debian(replace(environment, declaration=swapped)).packages == PACKAGES


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("libc6 2.36-9", "libc6 2.37-9", "was changed after it was made"),
        ("sha256:aaaa", "sha256:xaaa", "line 9: not a locked package"),
        ("pool/main/x/libc6", "../../etc/libc6", "line 9: not a locked package"),
        ("pool/main/x/libc6", "/etc/libc6", "line 9: not a locked package"),
        ("libc6 2.36", "libc6;id 2.36", "line 9: not a locked package"),
        ("openssl 1:3.0.22", "libc6 1:3.0.22", "a package is named twice"),
        ("# architecture: amd64", "# architecture: amd64\n# architecture: arm64", "2 lines"),
        ("# epoch: 1735689600", "# epoch: now", "epoch 'now' is malformed"),
    ],
)
def test_tampered(environment: Environment, old: str, new: str, fact: str) -> None:
    """A lock that was changed or broken by hand is refused, with the line where there is one."""
    locked(environment)
    path = environment.declaration.lock  # type: ignore[union-attr]
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LockError) as caught:
        read_debian(environment)
    assert fact in caught.value.message


def test_missing(environment: Environment) -> None:
    """A base without a lock says how to make it."""
    with pytest.raises(LockError, match="image 'base' has no lock"):
        read_debian(environment)


@pytest.mark.parametrize(
    "change",
    [
        {"python": "3.12"},
        {"architecture": "sparc"},
        {"suites": ()},
        {"packages": ("a b",)},
        {"suites": ("-x",)},
    ],
)
def test_impossible_declarations(environment: Environment, change: dict[str, object]) -> None:
    """A declaration that cannot be carried out is refused, and no lock is written."""
    declaration = replace(environment.declaration, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as caught:
        renew_debian(replace(environment, declaration=declaration), FakeApt({}), lambda _: None)
    assert caught.value.remedy
    assert not declaration.lock.exists()  # type: ignore[union-attr]


def test_another_kind(environment: Environment, tmp_path: Path) -> None:
    """A declaration of another kind is refused by name."""
    other = replace(environment, declaration=PipImage(tmp_path / "a.in", tmp_path / "a.lock", "base"))
    with pytest.raises(ConfigurationError, match="'base' is not made from Debian packages"):
        read_debian(other)


def test_base_facts(environment: Environment) -> None:
    """Python, glibc and machine are read off the locked versions."""
    lock = locked(environment)
    assert base_facts("base", lock) == BaseFacts("base", "3.11", "2.36", "x86_64")
    bare = replace(lock, packages=(), architecture="arm64")
    assert base_facts("bare", bare) == BaseFacts("bare", None, None, "aarch64")


def test_committed_base() -> None:
    """The committed lock of debian-python fits its declaration and names no mirror."""
    path = images() / "debian-python" / "image.yml"
    environment = read_image(Section.of(read_document(path)), "debian-python")
    assert isinstance(environment, Environment)
    assert base_facts("debian-python", read_debian(environment)).python == "3.11"
    assert "://" not in (path.parent / "image.lock").read_text(encoding="utf-8")


SOURCES = """\
'http://m.example/debian/dists/bookworm/InRelease' m 0
'http://m.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' m 0
'http://m.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' m 0
'http://s.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' m 0
'http://third.example/deb/dists/stable/main/binary-all/Packages' m 0
'http://docker.example/linux/debian/dists/bookworm/stable/binary-amd64/Packages' m 0
'cdrom:[Debian]/dists/bookworm/main/binary-amd64/Packages' m 0
"""


@pytest.mark.parametrize(
    ("mirror", "suite", "expected"),
    [
        (None, "bookworm", ("http://m.example/debian", "http://third.example/deb")),
        (None, "trixie", ("http://m.example/debian", "http://third.example/deb")),
        (None, "bookworm-security", ("http://s.example/debian-security", "http://m.example/debian")),
        ("http://x/debian/", "bookworm", ("http://x/debian",)),
        ("http://x/debian", "bookworm-security", ("http://x/debian-security",)),
        ("http://x/debian http://y/sec/", "bookworm-security", ("http://y/sec",)),
        ("http://x/debian,http://y/sec", "bookworm", ("http://x/debian",)),
        ("  ", "bookworm", ("http://m.example/debian", "http://third.example/deb")),
    ],
)
def test_mirrors(tmp_path: Path, mirror: str | None, suite: str, expected: tuple[str, ...]) -> None:
    """Mirrors come from the host's sources, those of the very suite first; a named one replaces them."""
    (tmp_path / "apt-get").touch(mode=0o755)

    def run(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        del options
        return subprocess.CompletedProcess(arguments, 0, SOURCES, "")

    assert Apt({"PATH": str(tmp_path)}, mirror, run).mirrors(suite) == expected


def test_missing_tool() -> None:
    """A machine without apt's programs gets one error that says what to install."""
    with pytest.raises(ConfigurationError, match="no-such-mmdebstrap is missing") as caught:
        call(["no-such-mmdebstrap"], {}, subprocess.run)
    assert "apt-get install mmdebstrap" in caught.value.remedy


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("http://u:p@h:8/debian/", "http://h:8/debian"),
        ("https://h/debian", "https://h/debian"),
        ("file:/srv/debian/", "file:/srv/debian"),
        ("mirror+file:/etc/apt/mirrors/debian.list", "mirror+file:/etc/apt/mirrors/debian.list"),
    ],
)
def test_plain_address(address: str, plain: str) -> None:
    """A mirror's address loses credentials and nothing else."""
    assert plain_address(address) == plain
