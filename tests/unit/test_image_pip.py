"""The pip layer: the same entries whoever installed, and nothing of the installer or the host."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest

from dispatch.errors import ImageError
from dispatch.image.pip import Tree, normalise
from dispatch.image.scripts import entry_point_script, entry_points, with_interpreter
from dispatch.image.tar import Kind
from dispatch.testing.images import write_package

SITE = "opt/venv/lib/python3.11/site-packages"
BY_INSTALLER = "#!/home/me/.venv/bin/python3\n# -*- coding: utf-8 -*-\nimport sys\n"
DEMO = {
    "demo/__init__.py": "x = 1\n",
    "demo/tests/test_demo.py": "def test(): pass\n",
    "demo/data.txt": "data",
    "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\ndemo = demo.cli:main\n",
    "../../../bin/demo": BY_INSTALLER,
    "../../../bin/helper": "#!/home/me/.venv/bin/python3\nprint('brought as a file')\n",
    "../../../share/man/man1/demo.1": "manual",
}


def tree_of(prefix: Path, **packages: dict[str, str]) -> Tree:
    """The normalised tree of some packages, each in its version 1.0."""
    for name, files in packages.items():
        write_package(prefix, "3.11", f"{name}-1.0", files)
    return normalise(prefix, "3.11", "/usr/bin/python3.11")


def content(tree: Tree, path: str) -> str:
    """The text of a file of the layer."""
    (entry,) = [entry for entry in tree.entries if entry.path == path]
    if entry.data is not None:
        return entry.data.decode()
    assert entry.source is not None
    return Path(os.fsdecode(entry.source)).read_text()


def test_layout(tmp_path: Path) -> None:
    """The layer is a virtual environment of the base's interpreter, with all directories above it."""
    tree = tree_of(tmp_path, demo=DEMO)
    entries = {entry.path: entry for entry in tree.entries}
    assert len(entries) == len(tree.entries)
    assert entries["opt"].kind is Kind.DIRECTORY
    assert entries["opt/venv/bin/python"].target == "/usr/bin/python3.11"
    assert entries["opt/venv/bin/python3"].target == entries["opt/venv/bin/python3.11"].target == "python"
    assert content(tree, "opt/venv/pyvenv.cfg") == (
        "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
    )
    assert "opt/venv/share/man/man1/demo.1" in entries


def test_traces_are_gone(tmp_path: Path) -> None:
    """What says who installed, when or where is dropped or fixed, and RECORD is sorted and true."""
    site = tmp_path / "lib/python3.11/site-packages"
    (site / "demo/__pycache__").mkdir(parents=True)
    (site / "demo/__pycache__/__init__.cpython-311.pyc").touch()
    tree = tree_of(tmp_path, demo=DEMO)
    names = {entry.path.rpartition("/")[2] for entry in tree.entries}
    assert not names & {"REQUESTED", "uv_cache.json", ".lock", "__pycache__", "__init__.cpython-311.pyc"}
    assert content(tree, f"{SITE}/demo-1.0.dist-info/INSTALLER") == "dispatch\n"
    rows = list(csv.reader(io.StringIO(content(tree, f"{SITE}/demo-1.0.dist-info/RECORD"))))
    assert rows == sorted(rows)
    sizes = {path: size for path, _, size in rows}
    assert sizes.pop("demo-1.0.dist-info/RECORD") == ""
    for path, size in sizes.items():
        place = os.path.normpath(f"{SITE}/{path}")
        assert len(content(tree, place)) == int(size)


def test_nothing_of_the_host(tmp_path: Path) -> None:
    """Another prefix, another umask and another installer's interpreter give the same entries."""
    first = tree_of(tmp_path / "one", demo=DEMO)
    other = {path: text.replace("/home/me/.venv", "/somewhere/else") for path, text in DEMO.items()}
    before = os.umask(0o077)
    try:
        second = tree_of(tmp_path / "two", demo=other)
    finally:
        os.umask(before)
    assert essence(first) == essence(second)


def essence(tree: Tree) -> dict[str, tuple[Kind, int, str]]:
    """What a layer is made of: kind, mode, and content or target of each entry."""
    return {
        entry.path: (
            entry.kind,
            entry.mode,
            content(tree, entry.path) if entry.kind is Kind.FILE else entry.target,
        )
        for entry in tree.entries
    }


def test_staging_is_never_written(tmp_path: Path) -> None:
    """The files of the staging prefix may be links into the installer's cache: none is touched."""
    write_package(tmp_path, "3.11", "demo-1.0", DEMO)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in before:
        path.chmod(0o444)
    normalise(tmp_path, "3.11", "/usr/bin/python3.11")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_sources_to_compile(tmp_path: Path) -> None:
    """Every source in site-packages is compiled, those of tests are not; the digest is of their bytes."""
    (wheel,) = tree_of(tmp_path / "one", demo=DEMO).wheels
    assert (wheel.name, wheel.sources) == ("demo-1.0.dist-info", ("demo/__init__.py",))
    (other,) = tree_of(tmp_path / "two", demo={**DEMO, "demo/__init__.py": "x = 2\n"}).wheels
    assert wheel.digest != other.digest


def test_a_source_that_two_packages_bring_is_compiled_once(tmp_path: Path) -> None:
    """Packages that share a name bring its ``__init__.py`` each; an engine takes a path only once."""
    shared = {"vendor/__init__.py": ""}
    tree = tree_of(
        tmp_path, one={**shared, "vendor/one.py": "x = 1\n"}, two={**shared, "vendor/two.py": "x = 2\n"}
    )
    assert [wheel.sources for wheel in tree.wheels] == [
        ("vendor/__init__.py", "vendor/one.py"),
        ("vendor/two.py",),
    ]


def test_two_packages_with_one_file(tmp_path: Path) -> None:
    """One file from two packages is accepted if both bring the same, else refused with both their names."""
    same = {"tests/__init__.py": ""}
    assert len(tree_of(tmp_path / "same", one=same, two=same).wheels) == 2
    with pytest.raises(ImageError, match=r"one-1.0 and two-1.0 both bring .*clash.py") as caught:
        tree_of(tmp_path / "clash", one={"clash.py": "1"}, two={"clash.py": "2"})
    assert caught.value.remedy


def test_links(tmp_path: Path) -> None:
    """A link inside a package is kept; one to a place of the host is refused."""
    package = tmp_path / "lib/python3.11/site-packages/demo"
    package.mkdir(parents=True)
    (package / "inner").symlink_to("data.txt")
    entries = {entry.path: entry for entry in tree_of(tmp_path, demo=DEMO).entries}
    assert entries[f"{SITE}/demo/inner"].target == "data.txt"
    (package / "outer").symlink_to("/etc/passwd")
    with pytest.raises(ImageError, match="/etc/passwd"):
        normalise(tmp_path, "3.11", "/usr/bin/python3.11")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/usr/bin/python3\n", "#!/opt/venv/bin/python\n"),
        ("#!/home/me/bin/python3.11\n", "#!/opt/venv/bin/python\n"),
        ("#!/home/me/bin/python3.11 -E\n", "#!/opt/venv/bin/python -E\n"),
        ("#!/x/pypy3\n", "#!/opt/venv/bin/python\n"),
        ("#!/bin/sh\n'''exec' \"/very long/python\" \"$0\" \"$@\"\n' '''\n", "#!/opt/venv/bin/python\n"),
        ("#!/bin/sh\n'''exec' '/x y/python' \"$0\" \"$@\"\n' '''\n", "#!/opt/venv/bin/python\n"),
        ("#!/usr/bin/env python3\n", "#!/usr/bin/env python3\n"),
        ("#!/bin/sh\nexec python\n", "#!/bin/sh\nexec python\n"),
        ("#!/bin/bash\n", "#!/bin/bash\n"),
        ("\x7fELF", "\x7fELF"),
        ("", ""),
    ],
)
def test_interpreter_lines(first: str, expected: str) -> None:
    """A line that names a Python by absolute path gets the image's own; everything else stays as it came."""
    changed = with_interpreter(f"{first}rest".encode(), "/opt/venv/bin/python")
    assert changed.decode() == f"{expected}rest"


@pytest.mark.parametrize(
    ("target", "imported", "call"),
    [
        ("demo.cli:main", "from demo.cli import main", "main()"),
        ("demo:App.run", "from demo import App", "App.run()"),
        ("demo.cli : main [extra]", "from demo.cli import main", "main()"),
        ("demo", None, None),
        ("demo:main()", None, None),
        ("demo; import os:main", None, None),
        ("demo:", None, None),
    ],
)
def test_entry_points(target: str, imported: str | None, call: str | None) -> None:
    """An entry point becomes a script of ours; what is none is left to the text that the installer wrote."""
    script = entry_point_script(target, "/opt/venv/bin/python")
    if imported is None:
        assert script is None
    else:
        assert script is not None and script.startswith(b"#!/opt/venv/bin/python\n")
        assert imported in script.decode() and f"sys.exit({call})" in script.decode()


def test_entry_point_listing() -> None:
    """Both kinds of scripts are listed, other groups and unreadable files are not."""
    listing = b"[console_scripts]\nOne = a:b\n[gui_scripts]\ntwo=c:d\n[pytest11]\nthree = e:f\n"
    assert entry_points(listing) == {"One": "a:b", "two": "c:d"}
    assert entry_points(b"\xff") == entry_points(b"no section") == {}


def test_scripts_in_the_layer(tmp_path: Path) -> None:
    """Scripts of entry points do not depend on the installer's text, those brought as files keep theirs."""
    tree = tree_of(tmp_path, demo=DEMO)
    assert "from demo.cli import main" in content(tree, "opt/venv/bin/demo")
    assert content(tree, "opt/venv/bin/helper") == "#!/opt/venv/bin/python\nprint('brought as a file')\n"
