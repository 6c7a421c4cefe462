"""Real Debian bases by mmdebstrap from the distribution's archive. No engine is needed."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.assets import images
from dispatch.environment import DebianImage, Environment
from dispatch.errors import ConfigurationError, ImageError, LockError, StaleBaseError
from dispatch.image.debian import DebianBuilder
from dispatch.lock.apt import Apt
from dispatch.lock.debian import read_debian, renew_debian
from dispatch.lock.model import DebianLock
from dispatch.reporting import Lines
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.archive


quiet = Lines(lambda _: None)


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> DebianLock:
    """debian-python, locked as the archive is today: the committed lock may have aged."""
    path = images() / "debian-python" / "image.yml"
    shipped = read_image(Section.of(read_document(path)), "debian-python")
    assert isinstance(shipped, Environment)
    assert isinstance(shipped.declaration, DebianImage)
    fresh = replace(shipped.declaration, lock=tmp_path_factory.mktemp("lock") / "image.lock")
    environment = replace(shipped, declaration=fresh)
    renew_debian(environment, Apt(os.environ), quiet)
    return read_debian(environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that the tests share."""
    return tmp_path_factory.mktemp("cache")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Work under another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_same_bytes(lock: DebianLock, cache: Path, tmp_path: Path) -> None:
    """Two builds under another umask, time zone, locale and TMPDIR are the same, and hold just the lock."""
    one, two, elsewhere = tmp_path / "one.tar", tmp_path / "two.tar", tmp_path / "tmp"
    elsewhere.mkdir()
    DebianBuilder(Apt(os.environ), cache, os.environ).build("base", lock, one, quiet)
    told = RecordingReporter()
    environ = {**os.environ, "TMPDIR": str(elsewhere), "TZ": "Asia/Tokyo", "LC_ALL": "C", "SECRET": "s3cret"}
    with umask(0o077):
        DebianBuilder(Apt(environ), cache, environ).build("base", lock, two, told)
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()
    assert not [line for line in told.lines if "fetching" in line]
    with tarfile.open(one) as archive:
        members = {info.name: info for info in archive}
    assert max(info.mtime for info in members.values()) <= lock.epoch
    assert members["usr/bin/python3"].issym()
    assert not members.keys() & {"etc/hostname", "etc/resolv.conf", "etc/apt/sources.list", "usr/bin/apt"}
    assert not list(elsewhere.iterdir())


def test_vanished_package(lock: DebianLock, tmp_path: Path) -> None:
    """A locked .deb that the archive has no longer is a stale lock with the command that renews it."""
    gone = replace(
        lock.packages[0], version="0.1", sha256="0" * 64, path="pool/main/b/base-files/none_0.1_all.deb"
    )
    stale = replace(lock, packages=(gone,))
    builder = DebianBuilder(Apt(os.environ), tmp_path, os.environ, command="dispatch lock --image base")
    with pytest.raises(
        StaleBaseError, match=r"stale lock: base-files 0\.1 is no longer in the archive"
    ) as caught:
        builder.build("base", stale, tmp_path / "root.tar", quiet)
    assert "`dispatch lock --image base`" in caught.value.remedy
    assert not list(tmp_path.rglob("*.tar"))
    assert not list((tmp_path / "debs").iterdir())


def test_other_file(lock: DebianLock, tmp_path: Path) -> None:
    """A .deb that is not the locked one is refused with its name, and not kept."""
    wrong = replace(lock, packages=(replace(lock.packages[0], sha256="0" * 64),))
    builder = DebianBuilder(Apt(os.environ), tmp_path, os.environ)
    with pytest.raises(LockError, match=r"the download of base-files .* does not match the lock"):
        builder.build("base", wrong, tmp_path / "root.tar", quiet)
    assert not list((tmp_path / "debs").iterdir())


def test_silent_mirror(lock: DebianLock, tmp_path: Path) -> None:
    """A mirror that does not answer is said to be so, without its name and password."""
    config = tmp_path / "apt.conf"
    config.write_text('Acquire::Retries "0";\n')
    apt = Apt({**os.environ, "APT_CONFIG": str(config)}, "http://user:s3cret@127.0.0.1:9/debian")
    one = replace(lock, packages=lock.packages[:1])
    with pytest.raises(ImageError, match="the Debian archive does not answer") as caught:
        DebianBuilder(apt, tmp_path, os.environ).build("base", one, tmp_path / "root.tar", quiet)
    assert not any(word in caught.value.message for word in ("s3cret", "127.0.0.1", "user"))
    with pytest.raises(ImageError, match="the Debian archive cannot be read for bookworm") as caught:
        apt.resolve(("bookworm",), ("python3",), "amd64", quiet)
    assert not any(word in caught.value.message for word in ("s3cret", "127.0.0.1", "user"))


def test_unknown_package() -> None:
    """A package that the archive does not know is an error that names it."""
    with pytest.raises(ConfigurationError, match="Unable to locate package no-such-package-here"):
        Apt(os.environ).resolve(("bookworm",), ("no-such-package-here",), "amd64", quiet)
