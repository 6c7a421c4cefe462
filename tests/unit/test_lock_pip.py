"""Pip locks made by the real uv from a wheelhouse of our own: renewal, staleness, installation, messages."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import Environment, PipImage
from dispatch.errors import ConfigurationError, DispatchError, ImageError, LockError
from dispatch.lock.complaint import translate
from dispatch.lock.model import BaseFacts, PipLock, PipPin, Target, Upgrade
from dispatch.lock.pins import parse_pins
from dispatch.lock.pip import read_pip, render, renew_pip
from dispatch.lock.uv import Uv, find_uv, platform_of
from dispatch.testing.wheelhouse import FACTS, Place, make_wheel

TARGET = Target("3.11", "2.36", "x86_64")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path, os.environ["PATH"])


def versions(lock: PipLock) -> dict[str, str]:
    """Versions by name."""
    return {pin.name: pin.version for pin in lock.pins}


def test_lock_holds_everything(place: Place) -> None:
    """A lock holds the packages asked for and what they need, each with its hash, and no place."""
    lock = place.renew("top  # wanted\n")
    assert versions(lock) == {"low": "1.0", "top": "1.0"}
    digest = hashlib.sha256((place.wheels / "top-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert lock.pins[1] == PipPin("top", "1.0", (f"sha256:{digest}",), ("requirements.in",))
    text = place.lock.read_text()
    assert str(place.wheels) not in text
    assert "hidden" not in text
    assert stat.S_IMODE(place.lock.stat().st_mode) == 0o644


def test_renewal_is_stable(place: Place) -> None:
    """Renewing without a reason changes nothing; versions are kept until an upgrade is asked for."""
    place.renew("low<2\n")
    assert not renew_pip(place.environment, FACTS, place.uv).changed
    assert versions(place.renew("low\n")) == {"low": "1.0"}
    upgraded = renew_pip(place.environment, FACTS, place.uv, Upgrade(everything=True))
    assert (upgraded.changed, upgraded.summary) == (True, "1 packages: low 1.0 → 2.0")


def test_known_hashes_are_kept(place: Place) -> None:
    """An index with fewer files of a release does not thin out its lock; other files are not mixed in."""
    lock = place.renew("low==1.0\n")
    (here,) = lock.pins[0].hashes
    elsewhere = "sha256:" + "f" * 64
    for known, expected in (((here, elsewhere), {here, elsewhere}), ((elsewhere,), {here})):
        place.lock.write_text(render(replace(lock, pins=(replace(lock.pins[0], hashes=known),))))
        assert set(place.renew().pins[0].hashes) == expected


@pytest.mark.parametrize(
    ("requirements", "facts", "fact"),
    [
        ("top\nnew\n", FACTS, "asks for new, which it does not hold"),
        ("top\nlow==1.0\n", FACTS, "a.in (or a file it includes) changed"),
        ("-i https://a.example/s\ntop\n", FACTS, "the indexes that"),
        ("top\n", replace(FACTS, python="3.12"), "Python was 3.11, now it is 3.12"),
        ("top\n", replace(FACTS, glibc="2.28"), "glibc was 2.36, now it is 2.28"),
        ("top\n", replace(FACTS, architecture="aarch64"), "the machine was x86_64, now it is aarch64"),
    ],
)
def test_stale(place: Place, requirements: str, facts: BaseFacts, fact: str) -> None:
    """A lock whose inputs changed says which, and the command that renews it."""
    place.renew("top\n")
    place.requirements.write_text(requirements)
    with pytest.raises(LockError, match="is stale") as caught:
        read_pip(place.environment, facts, command="dispatch lock e.yml")
    assert fact in caught.value.message
    assert "`dispatch lock e.yml`" in caught.value.remedy


def test_comments_do_not_make_stale(place: Place) -> None:
    """A comment in the requirements or in the lock changes nothing."""
    before = place.renew("top\n")
    place.requirements.write_text("# why\ntop # because\n")
    place.lock.write_text(place.lock.read_text().replace("# via top", "# the one below"))
    assert read_pip(place.environment, FACTS).digest == before.digest


def test_missing_lock(place: Place) -> None:
    """A lock that is not there is an error that names the command."""
    place.requirements.write_text("top\n")
    with pytest.raises(LockError, match="image 'sk' has no lock") as caught:
        read_pip(place.environment, FACTS, command="dispatch lock e.yml")
    assert "`dispatch lock e.yml`" in caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("low==1.0", "low==1.1", "was changed after it was made"),
        ("low==1.0", "low>=1.0", "line 10: not a package pinned once"),
        ("low==1.0", "top==1.0", "line 13: not a package pinned once"),
        ("low==1.0 \\", "low==1.0", "line 10: package low has no sha256 hash"),
        ("low==1.0 \\", "low==1.0 -e . \\", "line 10: not a pinned package"),
        ("--hash=sha256:", "--hash=md5:", "line 11: not a pinned package"),
        ("low==1.0 \\\n", "", "line 10: a hash that belongs to no package"),
        ("# format: 1", "# format: 2", "lock format 2 is not the one"),
        ("# format: 1\n", "", "the header has 0 lines `# format: …`"),
        ("# python: 3.11", "# python: 3.12", "was changed after it was made"),
        ("# python: 3.11", "# python: ../../x", "python '../../x' is malformed"),
        ("# inputs: ", "# inputs: x", "inputs"),
        ("<<<", "<<<", ""),
    ],
)
def test_tampered(place: Place, old: str, new: str, fact: str) -> None:
    """A lock that was changed or broken by hand is refused, with the line where there is one."""
    place.renew("top\n")
    text = place.lock.read_text()
    if not fact:
        old, new, fact = text, text + "<<<<<<< ours\n", "line 16: not a pinned package"
    place.lock.write_text(text.replace(old, new, 1))
    with pytest.raises(LockError) as caught:
        read_pip(place.environment, FACTS)
    assert fact in caught.value.message
    assert "`dispatch lock`" in caught.value.remedy


@pytest.mark.parametrize(
    ("requirements", "kind", "fact"),
    [
        ("absent", ConfigurationError, "package absent was not found in any package index"),
        ("top\nlow>=2", ConfigurationError, "the requirements cannot be met together"),
        (
            "foreign==1.0",
            ConfigurationError,
            "package foreign 1.0 has no wheel for Python 3.11, glibc 2.36, x86_64",
        ),
        (
            "modern==1.0",
            ConfigurationError,
            "package modern 1.0 has no wheel for Python 3.11, glibc 2.36, x86_64",
        ),
    ],
)
def test_cannot_be_locked(place: Place, requirements: str, kind: type[DispatchError], fact: str) -> None:
    """What has no solution is one error with reason and remedy; nothing is written, no place is shown."""
    make_wheel(place.wheels, "foreign", "1.0", tag="cp38-cp38-win_amd64")
    make_wheel(place.wheels, "modern", "1.0", tag="cp311-cp311-manylinux_2_39_x86_64")
    place.requirements.write_text(requirements)
    with pytest.raises(kind) as caught:
        renew_pip(place.environment, FACTS, place.uv)
    assert fact in caught.value.message
    assert caught.value.remedy
    assert "hidden" not in caught.value.message
    assert not place.lock.exists()


def test_other_python(place: Place) -> None:
    """A declared Python that is not the base's is refused before anything is resolved."""
    assert isinstance(place.environment.declaration, PipImage)
    place.requirements.write_text("top\n")
    asked = replace(place.environment, declaration=replace(place.environment.declaration, python="3.12"))
    with pytest.raises(ConfigurationError, match=r"asks for Python 3\.12, its base debian-python has 3\.11"):
        renew_pip(asked, FACTS, place.uv)
    with pytest.raises(ConfigurationError, match="has no glibc"):
        renew_pip(place.environment, replace(FACTS, glibc=None), place.uv)


@pytest.mark.parametrize("minor", ["3.9", "3.11", "3.13"])
def test_install_for_another_minor(place: Place, tmp_path: Path, minor: str) -> None:
    """A lock is installed for the target's Python by a client of any other, and uv's cache stays whole."""
    facts = replace(FACTS, python=minor)
    place.requirements.write_text("top\n")
    renew_pip(place.environment, facts, place.uv)
    lock = read_pip(place.environment, facts)
    for prefix in (tmp_path / "one", tmp_path / "two"):
        place.uv.install(lock, prefix, minor)
        site = prefix / "lib" / f"python{minor}" / "site-packages"
        assert [path.name for path in (prefix / "lib").iterdir()] == [f"python{minor}"]
        assert (site / "top.py").read_text().startswith("VERSION = '1.0'")
        assert sorted(path.name for path in (prefix / "bin").iterdir()) == ["low", "top"]
        # What is private may be changed: the second installation does not see it.
        record = site / "top-1.0.dist-info" / "RECORD"
        assert record.stat().st_nlink == 1
        assert "spoilt" not in record.read_text()
        record.write_text("spoilt")


def test_hash_mismatch(place: Place, tmp_path: Path) -> None:
    """A download that is not the locked file stops the installation and names package and both hashes."""
    lock = place.renew("top\n")
    got = lock.pins[0].hashes[0]
    wanted = "sha256:" + "0" * 64
    wrong = replace(lock, pins=(replace(lock.pins[0], hashes=(wanted,)), lock.pins[1]))
    with pytest.raises(LockError) as caught:
        place.uv.install(wrong, tmp_path / "prefix", "3.11")
    assert f"low 1.0 does not match the lock: expected {wanted}, got {got}" in caught.value.message
    assert not list((tmp_path / "prefix").rglob("low*"))


def test_vanished_release(place: Place, tmp_path: Path) -> None:
    """A locked release that no index has any more is said to be so."""
    lock = place.renew("top\n")
    (place.wheels / "low-1.0-py3-none-any.whl").unlink()
    fresh = replace(place.uv, environ={**place.environ, "UV_CACHE_DIR": str(tmp_path / "empty")})
    with pytest.raises(LockError, match=r"what the lock names is not to be had: .*low==1\.0") as caught:
        fresh.install(lock, tmp_path / "prefix", "3.11")
    assert "`dispatch lock e.yml`" in caught.value.remedy


def test_silent_index(place: Place) -> None:
    """An index that does not answer is no fault of the lock; neither its host nor its password is shown."""
    place.requirements.write_text("top\n")
    environ = {k: v for k, v in place.environ.items() if k != "PIP_NO_INDEX"}
    environ.update(PIP_INDEX_URL="http://user:s3cret@127.0.0.1:9/simple", PIP_RETRIES="0")
    with pytest.raises(ImageError, match="the package index does not answer") as caught:
        renew_pip(place.environment, FACTS, replace(place.uv, environ=environ))
    assert not any(word in caught.value.message for word in ("s3cret", "127.0.0.1", "user"))


@pytest.mark.parametrize(
    ("said", "kind", "fact"),
    [
        (
            "  × Failed to download `a==1`\n  ╰─▶ Hash mismatch for `a==1`\n",
            LockError,
            "download of a 1 does not match",
        ),
        (
            "error: Failed to fetch: <index>\n  cause: HTTP status client error (401 Unauthorized)",
            ImageError,
            "(401)",
        ),
        ("error: something new", ImageError, "uv failed: something new"),
        ("", ImageError, "uv failed: it said nothing"),
    ],
)
def test_messages(said: str, kind: type[DispatchError], fact: str) -> None:
    """Messages of older and of unknown wording still become one error with a remedy."""
    error = translate(said, TARGET, "a.in", "dispatch lock", installing=True)
    assert type(error) is kind
    assert fact in error.message
    assert error.remedy


@pytest.mark.parametrize(
    ("glibc", "platform"),
    [("2.36", "2_36"), ("2.28", "2_28"), ("2.30", "2_28"), ("2.41", "2_40"), ("2.17", "2_17")],
)
def test_platform(glibc: str, platform: str) -> None:
    """uv is asked for the newest platform it knows that does not need a newer glibc."""
    assert platform_of(replace(TARGET, glibc=glibc)) == f"x86_64-manylinux_{platform}"


@pytest.mark.parametrize("target", [replace(TARGET, glibc="2.5"), replace(TARGET, architecture="riscv64")])
def test_no_platform(target: Target) -> None:
    """A base for which there are no wheels at all is refused."""
    with pytest.raises(ConfigurationError):
        platform_of(target)


def test_digest_ignores_comments_and_order() -> None:
    """Who asked for a package, the order of pins and the base's name are not in a lock's digest."""
    pins = (PipPin("a", "1", ("sha256:1", "sha256:2"), ("x",)), PipPin("b", "1", ("sha256:3",)))
    lock = PipLock("base", TARGET, "0" * 64, pins)
    same = PipLock(
        "other", TARGET, "1" * 64, (pins[1], replace(pins[0], hashes=("sha256:2", "sha256:1"), via=()))
    )
    assert lock.digest == same.digest
    assert lock.digest != replace(lock, target=replace(TARGET, glibc="2.28")).digest


def test_parse_both_layouts() -> None:
    """A lock reads the same with hashes on lines of their own and all on one line."""
    pin = f"a==1 --hash=sha256:{'1' * 64} --hash=sha256:{'2' * 64}"
    error: Callable[[str, int], Exception] = lambda fact, line: LockError(f"{line}: {fact}")  # noqa: E731
    assert parse_pins([(1, pin)], error) == parse_pins(
        list(enumerate(pin.replace(" ", " \\\n").split("\n"))), error
    )
    with pytest.raises(LockError, match="2: the file breaks off"):
        parse_pins([(1, "a==1 \\"), (2, f"--hash=sha256:{'1' * 64} \\")], error)


@pytest.mark.archive
def test_real_index(tmp_path: Path) -> None:
    """On this machine, with its own index settings, a real package is locked and installed."""
    requirements = tmp_path / "a.in"
    requirements.write_text("six\n")
    environment = Environment("six", PipImage(requirements, tmp_path / "a.lock", "base"), tmp_path / "e.yml")
    uv = Uv(find_uv(os.environ), os.environ)
    renew_pip(environment, FACTS, uv)
    lock = read_pip(environment, FACTS)
    assert [pin.name for pin in lock.pins] == ["six"]
    assert "://" not in (tmp_path / "a.lock").read_text()
    uv.install(lock, tmp_path / "prefix", "3.11")
    assert (tmp_path / "prefix" / "lib" / "python3.11" / "site-packages" / "six.py").is_file()
