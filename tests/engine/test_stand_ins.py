"""The stand-ins on a real engine: what the entrypoints of Beaker's clients do in them works."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import assets
from dispatch._docker import Door
from dispatch._docker.containers import Bind
from dispatch._docker.helper import Finished, OneShot
from dispatch.app.standins import LABEL, STAND_INS, StandIn, StandIns
from dispatch.environment import Environment, LocalId
from dispatch.errors import ImageError
from dispatch.image.debian import DebianBuilder
from dispatch.lock.apt import Apt
from dispatch.lock.debian import read_debian, renew_debian
from dispatch.reporting import Lines
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section
from dispatch.settings.surroundings import read_environment
from dispatch.testing.channel import Package, write_channel
from dispatch.testing.index import wheel

pytestmark = [pytest.mark.engine, pytest.mark.archive]

Images = Mapping[str, LocalId]
quiet = Lines(lambda _: None)

HOOK = """\
set -euo pipefail
eval "$(command conda 'shell.bash' 'hook' 2> /dev/null)"
"""
# The ancestor's entrypoint, in short: an environment that is there is used, else it is made.
ENTRYPOINT = (
    HOOK
    + """\
cp -r /job /tmp/src && cd /tmp/src
if conda activate "$VENV_NAME" &>/dev/null; then
    [[ ! -f environment.yml ]] || conda env update -f environment.yml
elif [[ -f environment.yml ]]; then
    conda env create -n "$VENV_NAME" -f environment.yml
    conda activate "$VENV_NAME"
else
    conda create -y -n "$VENV_NAME" "python=$PYTHON_VERSION" pip
    conda activate "$VENV_NAME"
fi
[[ ! -f requirements.txt ]] || pip install --no-index -r requirements.txt >&2
python -c 'import sys, tiny; print(tiny.said, sys.prefix, "%d.%d" % sys.version_info[:2])'
"""
)
ENVIRONMENT = """\
name: theirs
channels: [conda-forge]
dependencies:
  - python={python}
  - pip
  - pip:
      - --no-index
      - ./tiny-1.0-py3-none-any.whl
"""
REQUIREMENTS = "./tiny-1.0-py3-none-any.whl\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The declarations that ship, with the Debian locks as the archive is today: those may have aged."""
    copy = tmp_path_factory.mktemp("images") / "images"
    shutil.copytree(assets.images(), copy)
    for name in ("stand-in-bookworm", "stand-in-bullseye"):
        _renew(copy / name / "image.yml")
    return copy


def _environment(path: Path) -> Environment:
    declared = read_image(Section.of(read_document(path)), path.parent.name)
    assert isinstance(declared, Environment)
    return declared


def _renew(path: Path) -> None:
    renew_debian(_environment(path), Apt(os.environ), quiet)


@pytest.fixture(scope="module")
def stand_ins(door: Door, folder: Path) -> StandIns:
    """The stand-ins of this machine's engine."""
    return StandIns(read_environment(), lambda: door, quiet, folder)


@pytest.fixture(scope="module")
def images(stand_ins: StandIns) -> Images:
    """All of them, made where the engine lacks them."""
    return stand_ins.build()


@pytest.fixture
def cut_off(door: Door, folder: Path, tmp_path: Path) -> StandIns:
    """The same on a machine whose network is cut, with a base for one of them that nobody has made yet."""
    copy = tmp_path / "images"
    shutil.copytree(folder, copy)
    path = copy / "stand-in-bookworm" / "image.yml"
    path.write_text(path.read_text("utf-8").replace("epoch: 1735689600", f"epoch: {time.time_ns() // 10**9}"))
    _renew(path)
    config = tmp_path / "apt.conf"
    config.write_text('Acquire::Retries "0";\n')
    cut = {"APT_CONFIG": str(config), "DISPATCH_APT_MIRROR": "http://127.0.0.1:9/debian"}
    environ = {**os.environ, **cut, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return StandIns(read_environment(environ), lambda: door, quiet, copy)


def bash(door: Door, image: LocalId, script: str, job: Path | None = None, **env: str) -> Finished:
    """Run a script in a container without network; ``job`` is what it finds at /job."""
    binds = (Bind(str(job), "/job"),) if job else ()
    return door.run_once(OneShot(image.id, ("bash", "-c", script), binds, env, timeout=180))


def said(finished: Finished) -> str:
    """What a script printed, once it has ended well."""
    assert finished.exit_code == 0, finished.stderr.decode()
    return finished.stdout.decode()


def by(stand_in: StandIn) -> str:
    """A test's name."""
    return stand_in.image


every = pytest.mark.parametrize("stand_in", STAND_INS, ids=by)


def written(place: Path, **files: str) -> Path:
    """A job's source: the given files, and a wheel that they can name."""
    (place / "tiny-1.0-py3-none-any.whl").write_bytes(wheel("tiny", 'said = "tiny!"'))
    for name, text in files.items():
        (place / name.replace("_", ".")).write_text(text)
    return place


@every
def test_made_once(stand_in: StandIn, images: Images, stand_ins: StandIns, door: Door) -> None:
    """Each name has its image; they say what they are, and are found again without being made."""
    found = {images[name] for name in stand_in.names}
    assert len(found) == 1
    record = door.inspect_image(found.pop().id)
    assert record is not None
    assert record.labels[LABEL].split() == list(stand_in.names)
    assert stand_ins.present() == stand_ins.build() == images
    motd = said(bash(door, images[stand_in.names[0]], "cat /etc/motd"))
    assert all(name in motd for name in stand_in.names)


def test_an_older_python_is_the_same_bytes(images: Images, door: Door, folder: Path, tmp_path: Path) -> None:
    """The base with Python 3.9, made again elsewhere, is the layer that the engine has.

    That Python compiles sets in the order of their hashes.
    """
    lock = read_debian(_environment(folder / "stand-in-bullseye" / "image.yml"))
    environ = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    target = tmp_path / "base.tar"
    DebianBuilder(Apt(environ), read_environment().cache, environ).build("base", lock, target, quiet)
    record = door.inspect_image(images[STAND_INS[1].names[0]].id)
    assert record is not None
    assert record.diff_ids[0] == f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
    with tarfile.open(target) as archive:
        assert "usr/lib/python3.9/__pycache__/ftplib.cpython-39.pyc" in archive.getnames()


def test_no_network(images: Images, cut_off: StandIns) -> None:
    """What cannot be made is one error that names it; nothing half is left, and the others are there."""
    for _ in range(2):
        with pytest.raises(ImageError, match="ai2/conda, beaker-py/gantry: they cannot be made") as caught:
            cut_off.build()
        assert "pytorch" not in caught.value.message
        assert caught.value.remedy
    assert cut_off.present() == {name: images[name] for name in STAND_INS[1].names}


@every
def test_environment_file(stand_in: StandIn, images: Images, door: Door, tmp_path: Path) -> None:
    """An environment.yml of Python, pip and a pip section is made without any channel, and that is said."""
    job = written(tmp_path, environment_yml=ENVIRONMENT.format(python=stand_in.python))
    done = bash(door, images[stand_in.names[0]], ENTRYPOINT, job, VENV_NAME="venv")
    assert said(done).splitlines()[-1] == f"tiny! /opt/conda/envs/venv {stand_in.python}"
    assert b"made from the image's own Python" in done.stderr
    assert b"stand-in" in done.stderr


@every
def test_requirements(stand_in: StandIn, images: Images, door: Door, tmp_path: Path) -> None:
    """Without an environment.yml the environment has the Python that is asked for; pip installs into it."""
    job = written(tmp_path, requirements_txt=REQUIREMENTS)
    env = {"VENV_NAME": "venv", "PYTHON_VERSION": stand_in.python}
    done = bash(door, images[stand_in.names[0]], ENTRYPOINT, job, **env)
    assert said(done).splitlines()[-1] == f"tiny! /opt/conda/envs/venv {stand_in.python}"


@every
def test_base(stand_in: StandIn, images: Images, door: Door, tmp_path: Path) -> None:
    """`venv_name: base` uses the environment that is there."""
    job = written(tmp_path, requirements_txt=REQUIREMENTS)
    done = bash(door, images[stand_in.names[0]], ENTRYPOINT, job, VENV_NAME="base")
    assert said(done).splitlines()[-1] == f"tiny! /opt/conda {stand_in.python}"
    assert b"made from" not in done.stderr


def test_another_user(images: Images, door: Door, tmp_path: Path) -> None:
    """Who may not write to /opt/conda has environments at home, as with conda."""
    job = written(tmp_path, environment_yml=ENVIRONMENT.format(python="3.11"))
    job.chmod(0o755)
    shot = OneShot(images["ai2/conda"].id, ("bash", "-c", ENTRYPOINT), timeout=180)
    shot = replace(shot, env={"HOME": "/tmp/home", "VENV_NAME": "venv"}, user="12345:12345")
    done = door.run_once(replace(shot, binds=(Bind(str(job), "/job"),)))
    assert said(done).splitlines()[-1] == "tiny! /tmp/home/.conda/envs/venv 3.11"
    script = (
        "conda env list; conda create -p /tmp/e pip && conda run -p /tmp/e pip --version; conda create -n e"
    )
    done = door.run_once(replace(shot, env={"HOME": "/root"}, command=("bash", "-c", script)))
    assert b"/tmp/e/lib" in done.stdout
    assert done.stderr.decode().splitlines()[-2].endswith("/root/.conda/envs can be written")


def test_what_jobs_call(images: Images, door: Door) -> None:
    """bash, git, curl, python, python3, pip and uv are there, and `run` gives a command's own exit code."""
    script = (
        "set -eu; for each in git curl python python3 pip uv conda which; do command -v $each; done >&2\n"
        '. "$(conda info --base)/etc/profile.d/conda.sh"; conda activate; echo "$CONDA_DEFAULT_ENV"\n'
        "conda run -n base sh -c 'exit 7' || echo $?"
    )
    assert said(bash(door, images["beaker-py/gantry"], script)).split() == ["base", "7"]


CHANNEL = """\
set -eu
python -m http.server --bind 127.0.0.1 --directory /job 8123 >/dev/null 2>&1 &
until curl -sf http://127.0.0.1:8123/noarch/repodata.json >/dev/null; do sleep 0.1; done
conda create -y -n one -c "$CHANNEL" hello
conda run -n one hello
conda list -n one --json
"""
PACKAGES = (
    Package("hello", "1.0", files={"bin/hello": "#!/bin/sh\necho old\n"}),
    Package("hello", "1.1", ("greeting >=2",), {"bin/hello": "#!/bin/sh\ncat {prefix}/share/greeting\n"}),
    Package("greeting", "2.0", files={"share/greeting": "greetings\n"}),
    Package("greeting", "1.0", files={"share/greeting": "no\n"}),
)


@every
@pytest.mark.parametrize("channel", ["file:///job", "/job", "http://127.0.0.1:8123", "local"])
def test_channel(stand_in: StandIn, channel: str, images: Images, door: Door, tmp_path: Path) -> None:
    """Packages come from a channel that answers: by its address, its path, or its name and the alias."""
    write_channel(tmp_path / "channel", PACKAGES)
    (tmp_path / "channel" / "local").symlink_to(".")
    env = {"CHANNEL": channel, "CONDA_CHANNEL_ALIAS": "http://127.0.0.1:8123"}
    out = said(bash(door, images[stand_in.names[0]], CHANNEL, tmp_path / "channel", **env))
    assert out.startswith("greetings\n")
    assert '"version": "1.1"' in out


def test_update_and_base(images: Images, door: Door, tmp_path: Path) -> None:
    """Packages that need no Python come into the base, and into an environment of the image's own Python."""
    write_channel(tmp_path / "channel", PACKAGES)
    script = (
        HOOK
        + """\
conda install -y -c file:///job greeting=2 && cat /opt/conda/share/greeting
conda create -y -n own python pip
conda install -y -n own -c file:///job 'hello<1.1' && conda run -n own hello
conda install -y -n own -c file:///job greeting && conda run -n own hello
conda run -n own pip --version >&2
"""
    )
    out = said(bash(door, images["ai2/conda"], script, tmp_path / "channel"))
    assert out.split() == ["greetings", "old", "old"]


WRONG = {
    "what no channel has": ("conda create -n x -c file:///job nothing", "nothing"),
    "another package than indexed": ("conda create -n x -c file:///job hello", "SHA-256"),
    "no channel": ("conda create -n x -c http://127.0.0.1:9 numpy", "http://127.0.0.1:9 does not answer"),
    "a name that leads nowhere": ("conda create -n x numpy", "conda-forge does not answer"),
    "another Python": ("conda create -n x python=3.8", "python=3.8"),
    "a secret": ("conda create -n x -c http://me:s3cret@127.0.0.1:9/t/s3cret/c numpy", "does not answer"),
    "what the stand-in lacks": ("conda tos", "this is dispatch's stand-in for conda"),
    "no such file": ("conda env create -n x -f none.yml", "none.yml: it cannot be read"),
    "no such environment": ("conda run -n y true", "'y': there is none; known: base"),
    "no such package for pip": (
        "printf 'dependencies: [python, pip, {pip: [--no-index, nothing-of-the-kind]}]' >/tmp/e.yml;"
        " conda env create -n x -f /tmp/e.yml",
        "pip could not install",
    ),
}


@pytest.mark.parametrize(("command", "expected"), WRONG.values(), ids=WRONG)
def test_refused(command: str, expected: str, images: Images, door: Door, tmp_path: Path) -> None:
    """What cannot be done is one error with a remedy, and no environment is left."""
    place = write_channel(tmp_path / "channel", [Package("hello")])
    broken = Package("hello", files={"bin/hello": "another\n"}).archive()
    (place / "noarch" / Package("hello").file).write_bytes(broken)
    done = bash(door, images["ai2/conda"], f"{command}; code=$?; ls /opt/conda/envs; exit $code", place)
    text = done.stderr.decode()
    assert done.exit_code in (1, 2), text
    assert done.stdout == b""
    assert expected in text
    assert "conda: error: " in text
    assert not any(word in text for word in ("Traceback", "s3cret"))


def test_killed(images: Images, door: Door) -> None:
    """An environment whose making is told to end is not there, and can be made at once."""
    script = """\
set -eu
mkfifo /tmp/waits
printf 'dependencies: [python, pip, {pip: ["-r waits"]}]' >/tmp/e.yml
conda env create -n x -f /tmp/e.yml &
until ls /tmp/condaenv.*; do sleep 0.1; done
kill -TERM $!
wait $! || echo ended $?
ls /opt/conda/envs /tmp
conda create -y -n x python && conda run -n x python -c 'print("made")'
"""
    out = said(bash(door, images["ai2/conda"], script)).splitlines()
    assert "ended 143" in out
    assert not [line for line in out if line == "x" or line.startswith("condaenv")]
    assert out[-1] == "made"
