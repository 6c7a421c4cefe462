"""The conda layer: the same entries whoever installed and from where, and nothing of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.errors import ImageError
from dispatch.image.conda import normalise_conda
from dispatch.image.pip import Tree
from dispatch.image.tar import Entry, Kind
from dispatch.lock.model import CondaLock
from dispatch.lock.rattler import Rattler
from dispatch.testing.channel import Package, write_channel
from dispatch.testing.condapackages import MINOR, PYTHON, locked, served, true_channel
from dispatch.testing.reporting import RecordingReporter

ROOT = "opt/conda"
STEMS = (
    PYTHON,
    "zlib-1.3-h0_0",
    "libtext-1.3-h1_0",
    "greet-1.0-0",
    "toolkit-1.0-0",
    "datafiles-1.0-0",
    "legacy-1.0-0",
)
GREET = """\
#!/opt/conda/bin/python{minor}
import sys

from greet import main

if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The channel, whose Python does not run."""
    return true_channel(tmp_path_factory.mktemp("channel") / "channel", python=False)


def tree_of(root: Path, lock: CondaLock, address: str) -> Tree:
    """The normalised tree of a lock that is installed from an address into a new directory."""
    root.mkdir()
    installer = Rattler(lambda _: [address], root / "archives", dict(os.environ))
    installer.install(lock, root / "prefix", "/opt/conda", RecordingReporter())
    return normalise_conda("env", root / "prefix", lock)


@pytest.fixture(scope="module")
def tree(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree of several packages."""
    root = tmp_path_factory.mktemp("tree") / "root"
    return tree_of(root, locked(channel, *STEMS), channel.as_uri())


def entry(tree: Tree, path: str) -> Entry:
    """The entry of a path below the prefix."""
    (found,) = [each for each in tree.entries if each.path == f"{ROOT}/{path}"]
    return found


def content(entry: Entry) -> bytes:
    """The content of a file."""
    if entry.data is not None:
        return entry.data
    assert entry.source is not None
    return Path(os.fsdecode(entry.source)).read_bytes()


def test_layout(tree: Tree) -> None:
    """The layer holds what the packages bring, made for its place, with all directories above it."""
    paths = [each.path for each in tree.entries]
    assert len(paths) == len(set(paths))
    assert {"opt", ROOT, f"{ROOT}/bin", f"{ROOT}/conda-meta"} <= set(paths)
    assert content(entry(tree, "bin/libtext-config")) == b"#!/bin/sh\necho /opt/conda/lib\n"
    assert entry(tree, "bin/libtext-config").mode == 0o755
    assert entry(tree, "share/libtext/words.txt").mode == 0o644
    assert entry(tree, "lib/libtext.so").target == "libtext.so.1.3"
    assert entry(tree, "share/text").kind is Kind.SYMLINK
    assert f"{ROOT}/CACHEDIR.TAG" not in paths


def test_hard_links(tree: Tree) -> None:
    """Two names of one file in a package are two names of one file in the layer, and no others are."""
    linked = [each for each in tree.entries if each.kind is Kind.HARDLINK]
    assert [(each.path, each.target) for each in linked] == [
        (f"{ROOT}/share/libtext/words.txt", f"{ROOT}/share/libtext/same.txt")
    ]


def test_entry_points(tree: Tree) -> None:
    """Entry points have a text of ours, and the record says so."""
    script = entry(tree, "bin/greet")
    assert script.mode == 0o755
    assert content(script).decode() == GREET.format(minor=MINOR)
    rows = json.loads(content(entry(tree, "conda-meta/greet-1.0-0.json")))["paths_data"]["paths"]
    assert {row["_path"]: row["size_in_bytes"] for row in rows}["bin/greet"] == script.size


def test_nothing_of_the_host(channel: Path, tree: Tree, tmp_path: Path) -> None:
    """Another place, another way to the channel and another umask give the same entries."""
    lock = locked(channel, *STEMS, name="conda-forge")
    before = os.umask(0o077)
    try:
        with served(channel) as (address, _):
            other = tree_of(tmp_path / "a longer name, with blanks", lock, address)
    finally:
        os.umask(before)
    assert essence(other) == essence(tree)
    written = [each.data for each in other.entries if each.data is not None]
    for trace in (os.fsencode(tmp_path), os.fsencode(channel), address.encode(), b"conda-forge"):
        assert not [data for data in written if trace in data]


def essence(tree: Tree) -> dict[str, tuple[Kind, int, str, bytes]]:
    """What a layer is made of: kind, mode, target and content of each entry."""
    return {
        each.path: (each.kind, each.mode, each.target, content(each) if each.kind is Kind.FILE else b"")
        for each in tree.entries
    }


def test_records_are_read(tree: Tree, tmp_path: Path) -> None:
    """Others read our records: a package of each of them, with the files that are there."""
    for each in tree.entries:
        if "/conda-meta/" in each.path and each.data:
            (tmp_path / each.path.rpartition("/")[2]).write_bytes(each.data)
    code = (
        "import os, sys, rattler\n"
        "for path in sys.argv[1:]:\n"
        "    record = rattler.PrefixRecord.from_path(path)\n"
        "    print(record.name.normalized, record.version, len(record.files), flush=True)\n"
        "os._exit(0)\n"
    )
    records = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", code, *records], capture_output=True, text=True, check=True)
    assert "greet 1.0 5" in done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == len(STEMS)


def test_what_is_compiled(tree: Tree) -> None:
    """All sources but those of tests are compiled, by the package that brings them."""
    assert [(each.name, each.sources) for each in tree.wheels] == [
        ("greet-1.0-0.conda", ("site-packages/greet/__init__.py",))
    ]


def test_compiled_files_of_packages(tmp_path: Path) -> None:
    """Compiled files of a package are left out: they name the time of a source that the layer changes."""
    files: dict[str, str | bytes] = {
        f"lib/python{MINOR}/site-packages/fast.py": "x = 1\n",
        f"lib/python{MINOR}/site-packages/__pycache__/fast.cpython-311.pyc": b"old\0",
    }
    package = Package("fast", "1.0", (), files, subdir="linux-64")
    channel = write_channel(tmp_path / "channel", [package])
    tree = tree_of(tmp_path / "root", locked(channel, "fast-1.0-0"), channel.as_uri())
    assert not [each for each in tree.entries if "__pycache__" in each.path]
    assert b"__pycache__" not in content(entry(tree, "conda-meta/fast-1.0-0.json"))


def test_post_link(channel: Path, tmp_path: Path) -> None:
    """A package with a script that would have to run in the image is refused, with what to do."""
    with pytest.raises(ImageError, match=r"'env': conda package registered 1\.0 has a post-link") as caught:
        tree_of(tmp_path / "root", locked(channel, "registered-1.0-0", "zlib-1.3-h0_0"), channel.as_uri())
    assert "leave registered out" in caught.value.remedy and "dockerfile:" in caught.value.remedy


def test_not_what_was_locked(channel: Path, tmp_path: Path) -> None:
    """What the installer left is compared with the lock."""
    lock = locked(channel, "zlib-1.3-h0_0")
    tree_of(tmp_path / "root", lock, channel.as_uri())
    other = replace(lock, packages=(replace(lock.packages[0], sha256="0" * 64),))
    with pytest.raises(ImageError, match="another file was installed than was locked"):
        normalise_conda("env", tmp_path / "root" / "prefix", other)
    missing = locked(channel, "datafiles-1.0-0")
    with pytest.raises(ImageError, match="the installer left no record"):
        normalise_conda("env", tmp_path / "root" / "prefix", missing)


def test_two_packages_with_one_file(tmp_path: Path) -> None:
    """Which of two packages gives a file that both bring does not depend on chance."""
    packages = [
        Package(name, "1.0", (), {"share/common": f"of {name}\n", f"share/{name}": ""}, subdir="linux-64")
        for name in ("one", "two", "six")
    ]
    channel = write_channel(tmp_path / "channel", packages)
    lock = locked(channel, "one-1.0-0", "two-1.0-0", "six-1.0-0")
    found = [tree_of(tmp_path / str(n), lock, channel.as_uri()) for n in range(4)]
    assert len({content(entry(each, "share/common")) for each in found}) == 1
    assert len({tuple(sorted(essence(each))) for each in found}) == 1
