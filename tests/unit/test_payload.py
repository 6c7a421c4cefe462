"""The runtime directory: content-addressed, readable by anybody, whole or absent, importable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dispatch import payload
from dispatch.errors import DispatchError

MODULES = [*payload.MODULES, *(f"{folder}/__init__" for folder in payload.FOLDERS), "runtime/run"]


def package(root: Path) -> Path:
    """Make a stand-in for the package: each travelling module is one line."""
    made = root / "dispatch"
    for name in [*MODULES, "runtime/main"]:
        path = made / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"NAME = {name!r}\n")
    return made


def bytecode_of(runtime: payload.Runtime) -> list[Path]:
    """The compiled files of a runtime directory."""
    return sorted(runtime.directory.rglob("*.pyc"))


def test_everything_that_travels_is_there() -> None:
    """The real package has every module of the list; the script alone stands outside the library."""
    files = payload.sources()
    assert {f"lib/dispatch/{module}.py" for module in payload.MODULES} < set(files)
    assert {"main.py", "lib/dispatch/runtime/run.py", "lib/dispatch/params/__init__.py"} < set(files)
    assert "lib/dispatch/runtime/main.py" not in files
    assert all(files.values())


def test_the_directory_is_named_by_its_content(tmp_path: Path) -> None:
    """Equal sources give the same directory, and one changed byte another."""
    made = package(tmp_path)
    first = payload.provide(tmp_path / "cache", made)
    assert payload.provide(tmp_path / "cache", made) == first
    (made / "step.py").write_text("NAME = 1\n")
    second = payload.provide(tmp_path / "cache", made)
    assert second.directory != first.directory
    assert second.digest != first.digest
    assert first.directory.is_dir()


def test_the_layout(tmp_path: Path) -> None:
    """main.py stands alone beside ``lib/``, which holds nothing but the package, with its bytecode."""
    runtime = payload.provide(tmp_path / "cache", package(tmp_path))
    assert sorted(path.name for path in runtime.directory.iterdir()) == ["lib", "main.py"]
    assert [path.name for path in (runtime.directory / "lib").iterdir()] == ["dispatch"]
    assert not (runtime.directory / "lib/dispatch/runtime/main.py").exists()
    assert len(bytecode_of(runtime)) == len(MODULES)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Files are 0644 and directories 0755 even under umask 077: a container's user must read them."""
    made = package(tmp_path)
    before = os.umask(0o077)
    try:
        runtime = payload.provide(tmp_path / "cache", made)
    finally:
        os.umask(before)
    for path in (runtime.directory, *runtime.directory.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_bytecode_is_used_unchecked(tmp_path: Path) -> None:
    """The interpreter takes the bytecode without a look at the source, and writes nothing."""
    runtime = payload.provide(tmp_path / "cache", package(tmp_path))
    (runtime.directory / "lib/dispatch/step.py").write_text("NAME = 'edited'\n")
    before = sorted(runtime.directory.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", "import dispatch.step as s; print(s.NAME)"],
        cwd=tmp_path / "cache",
        env={"PYTHONPATH": str(runtime.directory / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "step\n"
    assert sorted(runtime.directory.rglob("*")) == before


def test_a_damaged_directory_is_made_again(tmp_path: Path) -> None:
    """A file emptied by a power cut, or missing, is noticed and the directory replaced."""
    made = package(tmp_path)
    runtime = payload.provide(tmp_path / "cache", made)
    (runtime.directory / "main.py").write_text("")
    (runtime.directory / "lib/dispatch/step.py").unlink()
    assert payload.provide(tmp_path / "cache", made) == runtime
    assert (runtime.directory / "main.py").read_text() == "NAME = 'runtime/main'\n"
    assert (runtime.directory / "lib/dispatch/step.py").is_file()
    assert [path.name for path in runtime.directory.parent.iterdir()] == [runtime.directory.name]


def test_many_may_make_it_at_once(tmp_path: Path) -> None:
    """Eight at a time agree on one whole directory and leave nothing else behind."""
    made = package(tmp_path)
    found: list[payload.Runtime] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        found.append(payload.provide(tmp_path / "cache", made))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in found[0].directory.parent.iterdir()] == [found[0].directory.name]
    assert len(bytecode_of(found[0])) == len(MODULES)


def test_foreign_bytecode_goes_to_its_images_own_copy(tmp_path: Path) -> None:
    """What an image's interpreter compiled is used for that image only, under the same digest of sources."""
    made = package(tmp_path)
    own = payload.provide(tmp_path / "cache", made)
    files = {"dispatch/__pycache__/step.cpython-39.pyc": b"x"}
    first = payload.provide_for(tmp_path / "cache", "sha256:aa", files, made)
    second = payload.provide_for(tmp_path / "cache", "sha256:bb", files, made)
    assert len({own.directory, first.directory, second.directory}) == 3
    assert own.digest == first.digest == second.digest
    assert [path.name for path in bytecode_of(first)] == ["step.cpython-39.pyc"]
    assert not any("39" in path.name for path in bytecode_of(own))


@pytest.mark.parametrize(
    "path",
    [
        "dispatch/step.py",
        "../dispatch/__pycache__/step.cpython-39.pyc",
        "/dispatch/__pycache__/step.cpython-39.pyc",
        "dispatch/../dispatch/__pycache__/step.cpython-39.pyc",
        "dispatch/__pycache__/json.cpython-39.pyc",
        "dispatch/__pycache__/step.cpython-39.so",
        "other/__pycache__/step.cpython-39.pyc",
        "dispatch/__pycache__/../step.cpython-39.pyc",
    ],
)
def test_a_container_cannot_slip_in_other_files(tmp_path: Path, path: str) -> None:
    """Only bytecode of travelling modules is taken, at its own place."""
    with pytest.raises(DispatchError, match="bytecode"):
        payload.provide_for(tmp_path / "cache", "sha256:aa", {path: b"x"}, package(tmp_path))
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A file in the way of the cache directory is reported with the path and a remedy."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(DispatchError, match=str(tmp_path / "cache")) as caught:
        payload.provide(tmp_path / "cache", package(tmp_path))
    assert caught.value.remedy


def test_a_missing_module_is_a_clear_error(tmp_path: Path) -> None:
    """An installation without one of the travelling modules says which."""
    made = package(tmp_path)
    (made / "graph.py").unlink()
    with pytest.raises(DispatchError, match=r"graph\.py is missing"):
        payload.sources(made)


def test_the_client_needs_no_copy_of_this_checkout(tmp_path: Path) -> None:
    """A copy of the package elsewhere gives the same digest: it depends on the sources alone."""
    shutil.copytree(payload.PACKAGE, tmp_path / "dispatch", ignore=shutil.ignore_patterns("__pycache__"))
    assert payload.digest(payload.sources(tmp_path / "dispatch")) == payload.digest(payload.sources())
