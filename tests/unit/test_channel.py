"""The conda channel of the tests: what a solver and an installer of others make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch.testing.condapackages import MINOR, served, true_channel

# A process of its own: the library may abort when its interpreter ends.
CLIENT = """\
import asyncio, json, os, sys
import rattler
address, prefix, cuda, *specs = sys.argv[1:]
def virtual(name, version):
    build = rattler.BuildString("0")
    return rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), build)
async def main():
    machine = [virtual("__glibc", "2.36")] + ([virtual("__cuda", cuda)] if cuda else [])
    records = await rattler.solve(
        [address], specs, platforms=["linux-64", "noarch"], virtual_packages=machine)
    await rattler.install(
        records, prefix, cache_dir=prefix + ".cache", platform=rattler.Subdir("linux-64"),
        show_progress=False, alternative_target_prefix="/opt/conda")
    print(json.dumps([record.file_name for record in records]), flush=True)
asyncio.run(main())
os._exit(0)
"""


def installed(address: str, prefix: Path, *specs: str, cuda: str = "") -> list[str]:
    """Install what a solver finds in the channel, and return the names of the files."""
    command = [sys.executable, "-c", CLIENT, address, str(prefix), cuda, *specs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return sorted(names)


def test_python_runs(tmp_path: Path) -> None:
    """The channel's Python runs from where it is installed, and finds the packages beside it."""
    prefix = tmp_path / "prefix"
    installed(f"file://{true_channel(tmp_path / 'channel')}", prefix, "greet")
    code = "import greet, sys; greet.main(); print(sys.prefix)"
    env = {"LD_LIBRARY_PATH": str(prefix / "lib")}
    done = subprocess.run([prefix / "bin" / f"python{MINOR}", "-c", code], env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    place = prefix / "lib" / f"python{MINOR}" / "site-packages" / "greet" / "__init__.py"
    assert done.stdout.decode().splitlines() == [f"hello from {place}", str(prefix)]


def test_content(tmp_path: Path) -> None:
    """Placeholders become the prefix, in binary files of the same length; links stay links."""
    prefix = tmp_path / "prefix"
    with served(true_channel(tmp_path / "channel", python=False)) as (address, asked):
        installed(address, prefix, "libtext", "greet")
    assert (prefix / "bin" / "libtext-config").read_text() == "#!/bin/sh\necho /opt/conda/lib\n"
    assert b"\0/opt/conda/share/libtext\0" in (prefix / "lib" / "libtext.so.1.3").read_bytes()
    assert (prefix / "lib" / "libtext.so").readlink() == Path("libtext.so.1.3")
    assert (prefix / "share" / "libtext" / "same.txt").samefile(prefix / "share" / "libtext" / "words.txt")
    assert (prefix / "bin" / "greet").read_text().startswith(f"#!/opt/conda/bin/python{MINOR}\n")
    assert "/linux-64/libtext-1.3-h1_0.conda" in asked


@pytest.mark.parametrize(("cuda", "build"), [("", "cpu_0"), ("11.8", "cuda11_1"), ("12.4", "cuda12_2")])
def test_variants(cuda: str, build: str, tmp_path: Path) -> None:
    """A solver takes the build that fits the driver, and the one for no GPU where there is none."""
    address = f"file://{true_channel(tmp_path / 'channel', python=False)}"
    assert installed(address, tmp_path / "prefix", "accel", cuda=cuda) == [f"accel-2.0-{build}.conda"]


def test_added_to(tmp_path: Path) -> None:
    """A channel that is written twice holds what it held, and the same bytes."""
    index = true_channel(tmp_path, python=False) / "linux-64" / "repodata.json"
    first = index.read_bytes()
    true_channel(tmp_path, python=False)
    assert index.read_bytes() == first
