"""The conda executable of ours: asked as conda-lock asks, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dispatch.lock.condasolver import KEEP
from dispatch.testing.channel import Package, write_channel
from dispatch.testing.condapackages import true_channel

STRESS = float(os.environ.get("DISPATCH_STRESS", "1"))


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel for several platforms."""
    return true_channel(tmp_path_factory.mktemp("channel"), python=False)


def machine(directory: Path, platform: str = "linux-64", **packages: str) -> str:
    """Write the channel of virtual packages that conda-lock makes, and return its address."""
    subdir = directory / "conda-lock-fake-repodata-x" / platform
    subdir.mkdir(parents=True, exist_ok=True)
    entries = {
        f"{name}-{version}": {"name": f"__{name}", "version": version, "build": "0"}
        for name, version in packages.items()
    }
    (subdir / "repodata.json").write_text(json.dumps({"packages": entries}), "utf-8")
    return subdir.parent.as_uri()


def ask(
    channel: Path, *words: str, environ: Mapping[str, str] | None = None, command: str = "create"
) -> tuple[int, dict[str, Any]]:
    """Run the solver; return its exit code and its answer."""
    channels = [word for word in words if word.startswith("file:")]
    given = [each for address in (channel.as_uri(), *channels) for each in ("--channel", address)]
    specs = [word for word in words if not word.startswith("file:")]
    arguments = [command, "--dry-run", "--json", "--override-channels", *given, *specs]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(channel), **(environ or {})}
    done = subprocess.run(
        [sys.executable, "-m", "dispatch.lock.condasolver", *arguments],
        env=env,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout)


def versions(answer: Mapping[str, Any]) -> dict[str, str]:
    """The versions and builds of an answer, by name."""
    return {each["name"]: f"{each['version']}={each['build']}" for each in answer["actions"]["FETCH"]}


def test_an_answer_as_conda_gives_it(channel: Path, tmp_path: Path) -> None:
    """All that is linked is fetched, and each package is told in full."""
    code, answer = ask(channel, machine(tmp_path, glibc="2.36"), "greet")
    assert code == 0 and set(versions(answer)) == {"greet", "libtext", "python", "zlib"}
    assert answer["actions"]["LINK"] == answer["actions"]["FETCH"]
    greet = next(each for each in answer["actions"]["FETCH"] if each["name"] == "greet")
    size = (channel / "noarch" / greet["fn"]).stat().st_size
    assert (greet["noarch"], greet["subdir"], greet["size"]) == ("python", "noarch", size)
    assert len(greet["sha256"]) == 64 and "libtext" in greet["depends"]


@pytest.mark.parametrize(
    ("offered", "build"),
    [({"cuda": "12.4"}, "cuda12_2"), ({"cuda": "11.8"}, "cuda11_1"), ({}, "cpu_0")],
)
def test_what_the_machine_offers(
    channel: Path, tmp_path: Path, offered: Mapping[str, str], build: str
) -> None:
    """Virtual packages are those it is told of, whatever this machine or a variable says."""
    told = machine(tmp_path, glibc="2.36", **offered)
    environ = {"CONDA_OVERRIDE_CUDA": "99.0", "CONDA_OVERRIDE_GLIBC": "2.99"}
    assert versions(ask(channel, told, "accel", environ=environ)[1])["accel"] == f"2.0={build}"
    code, answer = ask(channel, told, "newest", environ=environ)
    assert code == 1 and answer["exception_name"] == "UnsatisfiableError" and "__glibc" in answer["message"]


def test_another_platform(channel: Path, tmp_path: Path) -> None:
    """It solves for the platform that it is told, not for this machine's."""
    told = machine(tmp_path, "linux-aarch64", glibc="2.36")
    _, answer = ask(channel, told, "libtext", environ={"CONDA_SUBDIR": "linux-aarch64"})
    assert [each["subdir"] for each in answer["actions"]["FETCH"]] == ["linux-aarch64"]


def test_versions_that_are_kept(channel: Path, tmp_path: Path) -> None:
    """A version is kept where it fits and is still there with the same content, and only then."""
    told = machine(tmp_path, glibc="2.36")
    old = next(
        each
        for each in ask(channel, told, "libtext ==1.2")[1]["actions"]["FETCH"]
        if each["name"] == "libtext"
    )

    def with_kept(*specs: str, **changes: str) -> str:
        kept = tmp_path / "keep.json"
        kept.write_text(json.dumps([{**old, **changes}]), "utf-8")
        return versions(ask(channel, told, *specs, environ={KEEP: str(kept)})[1])["libtext"]

    assert with_kept("libtext") == "1.2=h1_0"
    assert with_kept("libtext >=1.3") == "1.3=h1_0"
    assert with_kept("libtext", fn="libtext-1.2-gone_0.conda") == "1.3=h1_0"
    assert with_kept("libtext", sha256="0" * 64) == "1.3=h1_0"


def test_an_update_of_a_prefix(channel: Path, tmp_path: Path) -> None:
    """What is installed stays as it is, but for what is named; only what changes is linked."""
    told = machine(tmp_path, glibc="2.36")
    prefix = tmp_path / "prefix"
    (prefix / "conda-meta").mkdir(parents=True)
    installed = ask(channel, told, "libtext ==1.2", "numlib ==1.5")[1]["actions"]["FETCH"]
    for each in installed:
        (prefix / "conda-meta" / f"{each['name']}.json").write_text(json.dumps(each), "utf-8")
    code, answer = ask(channel, told, "libtext", "--prefix", str(prefix), command="install")
    assert code == 0 and versions(answer) == {"libtext": "1.3=h1_0"}
    listed = subprocess.run(
        [sys.executable, "-m", "dispatch.lock.condasolver", "list", "-p", str(prefix), "--json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert {each["name"] for each in json.loads(listed.stdout)} == {each["name"] for each in installed}


def test_channels_by_name_and_bound_specifications(tmp_path: Path) -> None:
    """A name is looked up as conda does; a specification bound to a channel comes from that one."""
    for name, version in (("one", "2.0"), ("two", "1.0")):
        write_channel(tmp_path / name, [Package("a", version)])
    environ = {"CONDA_CHANNEL_ALIAS": tmp_path.as_uri(), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def solved(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dispatch.lock.condasolver", "create", "--json", *arguments],
            env=environ,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return str(json.loads(done.stdout)["actions"]["FETCH"][0]["version"])

    assert solved("-c", "one", "-c", "two", "a") == "2.0"
    assert solved("-c", "one", "-c", "two", "two::a") == "1.0"
    assert solved("-c", "one", f"--channel={(tmp_path / 'two').as_uri()}", "two::a") == "1.0"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("create", "--json", "-c", "file:///nowhere", "a"), "ChannelError"),
        (("create", "--json", "-c", "http://127.0.0.1:1/c", "a"), "ChannelError"),
        (("create", "--json", "-c", "file:///nowhere", "a ==="), "InvalidMatchSpec"),
        (("frobnicate",), "ArgumentError"),
    ],
)
def test_what_fails(words: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    """It is said in JSON and by the exit code, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "dispatch.lock.condasolver", *words],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    answer = json.loads(done.stdout)
    assert done.returncode != 0 and answer["exception_name"] == kind and answer["message"]
    assert b"Traceback" not in done.stderr


def test_it_ends_well_every_time(channel: Path, tmp_path: Path) -> None:
    """py-rattler may abort at an interpreter's exit; this program's exit code is always that of its work."""
    told = machine(tmp_path, glibc="2.36")
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: ask(channel, told, "greet")[0], range(max(12, int(200 * STRESS)))))
    assert set(runs) == {0}


def test_an_update_by_conda_lock(channel: Path, tmp_path: Path) -> None:
    """conda-lock's own `--update` works with it: what is named is taken anew, and nothing else moves."""
    solver = tmp_path / "dispatch-conda-solver"
    solver.write_text(f'#!/bin/sh\nexec {sys.executable} -m dispatch.lock.condasolver "$@"\n', "utf-8")
    solver.chmod(0o755)
    (tmp_path / "names.json").write_text("{}", "utf-8")

    def lock(*specs: str, update: tuple[str, ...] = ()) -> str:
        asked = {"channels": [channel.as_uri()], "dependencies": list(specs)}
        (tmp_path / "environment.yml").write_text(json.dumps(asked), "utf-8")
        names = (tmp_path / "names.json").as_uri()
        arguments = ["--conda", str(solver), "--file", "environment.yml", "--platform", "linux-64"]
        arguments += ["--lockfile", "lock.yml", "--pypi_to_conda_lookup_file", names, *update]
        subprocess.run(
            [sys.executable, "-m", "conda_lock", "lock", *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            check=True,
            timeout=300,
        )
        return (tmp_path / "lock.yml").read_text("utf-8")

    first = lock("libtext ==1.2", "numlib ==1.5")
    assert "libtext-1.2" in first and "numlib-1.5" in first
    second = lock("libtext", "numlib", update=("--update", "libtext"))
    assert "libtext-1.3" in second and "numlib-1.5" in second
