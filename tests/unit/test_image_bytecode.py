"""Compiled packages: compiled once, by an interpreter of the base, into the same bytes."""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dispatch._docker.helper import Finished, OneShot
from dispatch.errors import ImageError
from dispatch.image import compile_wheel
from dispatch.image.bytecode import BytecodeCache, BytecodeStream, Compiler, Piece
from dispatch.image.pip import Wheel
from dispatch.image.ports import HelperRunner
from dispatch.testing.images import FakeHelper

SITE = "/opt/venv/lib/python3.11/site-packages"
TAG = sys.implementation.cache_tag
SOURCES = {
    "top.py": "x = 'top'\n",
    "demo/__init__.py": "y = {'a', 'b', 'c'}\n",
    "demo/bad.py": "print 'no'\n",
}


def wheels(root: Path) -> list[Wheel]:
    """Two packages whose sources are under ``root``."""
    for path, text in SOURCES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return [
        Wheel("demo-1.0.dist-info", ("demo/__init__.py", "demo/bad.py"), "d" * 64),
        Wheel("top-1.0.dist-info", ("top.py",), "t" * 64),
    ]


def pieces(root: Path, cache: Path, helper: HelperRunner, base: str = "sha256:base") -> list[Piece]:
    """The compiled packages of ``wheels``."""
    found = wheels(root / "site")
    work = root / "work" / base
    work.mkdir(parents=True, exist_ok=True)
    compiler = Compiler(helper, base, "/usr/bin/python3.11", root / "site", SITE, "0:0")
    return BytecodeCache(cache, base, SITE).pieces(found, 7, compiler, work)


def test_the_layer(tmp_path: Path) -> None:
    """The layer holds a hash-based .pyc for each source that compiles, with the path of the image in it."""
    stream = BytecodeStream(pieces(tmp_path, tmp_path / "cache", FakeHelper()), 7)
    data = b"".join(stream.chunks())
    assert len(data) == stream.size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {member.name: member for member in archive if member.isfile()}
        directories = [member.name for member in archive if member.isdir()]
        assert list(files) == [
            f"{SITE[1:]}/demo/__pycache__/__init__.{TAG}.pyc",
            f"{SITE[1:]}/__pycache__/top.{TAG}.pyc",
        ]
        assert {"opt", SITE[1:], f"{SITE[1:]}/demo/__pycache__", f"{SITE[1:]}/__pycache__"} <= set(
            directories
        )
        member = archive.extractfile(files[f"{SITE[1:]}/__pycache__/top.{TAG}.pyc"])
        assert member is not None
        compiled = member.read()
    assert compiled[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
    assert compiled[8:16] == importlib.util.source_hash(SOURCES["top.py"].encode())
    assert marshal.loads(compiled[16:]).co_filename == f"{SITE}/top.py"


def test_nothing_is_compiled_twice(tmp_path: Path) -> None:
    """A package is compiled once for a base, whatever else changes, and again for another base."""
    helper, cache = FakeHelper(), tmp_path / "cache"
    first = pieces(tmp_path / "one", cache, helper)
    assert pieces(tmp_path / "two", cache, helper) == first
    assert len(helper.compiled) == 2
    pieces(tmp_path / "three", cache, helper, base="sha256:other")
    assert len(helper.compiled) == 4


def test_damage_is_mended(tmp_path: Path) -> None:
    """A damaged file of the cache counts as missing."""
    helper, cache = FakeHelper(), tmp_path / "cache"
    first = pieces(tmp_path / "one", cache, helper)
    good = first[0].path.read_bytes()
    first[0].path.write_bytes(good[:-1] + b"!")
    pieces(tmp_path / "two", cache, helper)
    assert first[0].path.read_bytes() == good
    assert len(helper.compiled) == 3


class Answering:
    """A helper that leaves given files, or ends badly."""

    def __init__(self, facts: object, data: bytes, exit_code: int = 0) -> None:
        self._facts = facts
        self._data = data
        self._exit_code = exit_code

    def run_once(self, shot: OneShot) -> Finished:
        """Leave the answer for every package that was asked for."""
        places = {bind.target: Path(bind.source) for bind in shot.binds}
        jobs = json.loads((places["/dispatch/job"] / "jobs.json").read_text())
        for key in jobs["wheels"]:
            (places["/dispatch/output"] / f"{key}.json").write_text(json.dumps(self._facts))
            (places["/dispatch/output"] / f"{key}.bin").write_bytes(self._data)
        return Finished(self._exit_code, b"", b"Traceback\nOSError: no\n")


@pytest.mark.parametrize(
    ("helper", "message"),
    [
        (Answering({"tag": TAG, "sizes": [1]}, b"x", exit_code=1), "ended with 1: OSError: no"),
        (Answering({"tag": TAG, "sizes": [1]}, b"xy"), "does not fit"),
        (Answering({"tag": TAG, "sizes": []}, b""), "does not fit"),
        (Answering({"tag": "../../etc", "sizes": [1]}, b"x"), "does not fit"),
        (Answering({"tag": TAG}, b"x"), "left nothing"),
        (Answering([], b"x"), "left nothing"),
    ],
)
def test_answers_are_checked(tmp_path: Path, helper: Answering, message: str) -> None:
    """What a container leaves cannot place files elsewhere, nor be taken for something it is not."""
    site, work = tmp_path / "site", tmp_path / "work"
    (wheel,) = wheels(site)[1:]
    work.mkdir()
    compiler = Compiler(helper, "base", "/usr/bin/python3", site, SITE, "0:0")
    with pytest.raises(ImageError, match=message):
        BytecodeCache(tmp_path / "cache", "base", SITE).pieces([wheel], 7, compiler, work)


def test_worker_as_a_program(tmp_path: Path) -> None:
    """The worker, run as in a container, gives the same bytes for other orders and hash seeds."""
    (tmp_path / "site").mkdir()
    a, b = (wheel.sources for wheel in wheels(tmp_path / "site"))
    results = []
    for seed, order in (("1", {"a": a, "b": b}), ("2", {"b": b, "a": a}), ("3", {"a": a})):
        output = tmp_path / seed
        output.mkdir()
        jobs = {"site": str(tmp_path / "site"), "prefix": SITE, "output": str(output), "wheels": order}
        (output / "jobs.json").write_text(json.dumps(jobs))
        subprocess.run(
            [sys.executable, "-S", compile_wheel.__file__, str(output / "jobs.json")],
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        results.append((output / "a.bin").read_bytes())
        assert json.loads((output / "a.json").read_text())["sizes"][1] is None
    assert results[0] and results[0] == results[1] == results[2]
