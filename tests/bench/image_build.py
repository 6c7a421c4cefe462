"""An image of nineteen packages: ours, beside a Dockerfile with uv and one with pip, all from one index.

The base of all three is the same image; pip and uv are in it before the clock starts. Each contender leaves
compiled files in its image. Warm means that wheels are cached (ours: and each wheel's bytecode), but no
layer.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import wheelhouse
from harness import DISPATCH, ENVIRON, RUNS, Row, seconds, times

_TOOLS = "dispatch-bench-tools:1"
_THEIRS = "dispatch-bench-theirs:1"
_PREPARED = """\
FROM {base}
COPY uv /usr/local/bin/uv
COPY {pip} /tmp/{pip}
RUN python3 /tmp/{pip}/pip install -q --no-index --break-system-packages /tmp/{pip} && rm /tmp/{pip}
"""
_UV = """\
FROM {tools}
COPY requirements.lock /tmp/
RUN --mount=type=cache,id={cache},target=/cache \\
    export UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_INDEX_URL={index}; uv venv -q /opt/venv && \\
    uv pip install -q --python /opt/venv --require-hashes --no-deps --compile-bytecode \\
    -r /tmp/requirements.lock
"""
_SETTLED = """\
FROM {tools}
RUN --mount=type=cache,id={cache},target=/cache true
"""
_EMPTIED = """\
FROM {tools}
RUN --mount=type=cache,id={cache},target=/cache find /cache -mindepth 1 -delete
"""
_PIP = """\
FROM {tools}
COPY requirements.lock /tmp/
RUN --mount=type=cache,id={cache},target=/cache \\
    python3 -m venv --without-pip /opt/venv && PIP_CACHE_DIR=/cache python3 -m pip \\
    --python /opt/venv/bin/python install -q --index-url {index} --require-hashes --no-deps \\
    -r /tmp/requirements.lock
"""


def rows() -> list[Row]:
    """Measure all three in turn; the base is in the engine already."""
    wheels = wheelhouse.fetched(wheelhouse.PINS, ("pip==25.2",))
    with (
        tempfile.TemporaryDirectory() as place,
        wheelhouse.served(wheels, Path(place) / "index") as index,
        _prepared(Path(place), index, wheels) as bench,
    ):
        cold = bench.in_turn(warm=False, runs=max(1, RUNS // 2))
        warm = bench.in_turn(warm=True, runs=RUNS)
    what = f"image of {len(wheelhouse.PINS)} packages"
    names = (f"{what}: ours", f"{what}: Dockerfile with uv", f"{what}: Dockerfile with pip")
    found = [
        Row(name, f"{after:.1f} s; {before:.1f} s with nothing cached")
        for name, before, after in zip(names, cold, warm, strict=True)
    ]
    return [
        *found,
        Row("ours to uv's, wheels cached", times(warm[0], warm[1]), "≤ 1.3 ×"),
        Row("ours to uv's, nothing cached", times(cold[0], cold[1])),
        Row("ours to pip's, wheels cached", times(warm[0], warm[2]), "≤ 0.25 ×"),
        Row("ours to pip's, nothing cached", times(cold[0], cold[2])),
    ]


class _Bench:
    """The three contenders in one directory."""

    def __init__(self, root: Path, index: str, client: list[str]) -> None:
        self._root = root
        self._index = index
        self._client = client
        self._env = {
            **{name: value for name, value in ENVIRON.items() if not name.startswith(("PIP_", "UV_"))},
            "XDG_CACHE_HOME": str(root / "cache"),
            "UV_CACHE_DIR": str(root / "uv"),
            "PIP_INDEX_URL": index,
            "PIP_CONFIG_FILE": os.devnull,
        }

    def lock(self) -> str:
        """Lock the packages, build our image once, and return its reference."""
        image = {"pip": "requirements.in", "base": "debian-python"}
        steps = {"one": {"type": "shell", "command": "true"}}
        document = {"image": "bench-build", "images": {"bench-build": image}, "steps": steps}
        (self._root / "experiment.yml").write_text(json.dumps(document))
        (self._root / "requirements.in").write_text("\n".join(wheelhouse.PINS))
        seconds([DISPATCH, "lock", "experiment.yml"], cwd=self._root, env=self._env)
        command = [DISPATCH, "build", "experiment.yml"]
        said = subprocess.run(
            command, cwd=self._root, env=self._env, check=True, stdout=subprocess.PIPE, text=True
        )
        self.reference = said.stdout.split("\t")[1].strip()
        return self.reference

    def in_turn(self, *, warm: bool, runs: int) -> tuple[float, float, float]:
        """Medians of ours, uv's and pip's; one round is not counted where caches are to be warm."""
        contenders: tuple[Callable[[bool], float], ...] = (
            self._ours,
            lambda kept: self._theirs(_UV, "uv", kept),
            lambda kept: self._theirs(_PIP, "pip", kept),
        )
        if warm:
            for each in contenders:
                each(True)
        rounds = [[each(warm) for each in contenders] for _ in range(runs)]
        ours, uv, pip = (statistics.median(column) for column in zip(*rounds, strict=True))
        return ours, uv, pip

    def _ours(self, warm: bool) -> float:
        _docker("image", "rm", "--force", self.reference)
        shutil.rmtree(self._root / "cache" / "dispatch" / "layers", ignore_errors=True)
        if not warm:
            shutil.rmtree(self._root / "cache" / "dispatch" / "bytecode", ignore_errors=True)
            shutil.rmtree(self._root / "uv", ignore_errors=True)
        return seconds([DISPATCH, "build", "experiment.yml"], cwd=self._root, env=self._env)

    def _theirs(self, template: str, name: str, warm: bool) -> float:
        # Removing the last image is over when another build is, and is nobody's time.
        self._build(_SETTLED if warm else _EMPTIED, name)
        return self._build(template, name)

    def _build(self, template: str, name: str) -> float:
        context = self._root / name
        context.mkdir(exist_ok=True)
        shutil.copy(self._root / "requirements.lock", context)
        text = template.format(tools=_TOOLS, index=self._index, cache=f"dispatch-bench-{name}")
        (context / "Dockerfile").write_text(text)
        _docker("image", "rm", "--force", _THEIRS)
        build = [
            *self._client,
            "build",
            "-q",
            "--no-cache",
            "--network",
            "host",
            "--tag",
            _THEIRS,
            str(context),
        ]
        return seconds(build, env={**ENVIRON, "DOCKER_BUILDKIT": "1"})


@contextmanager
def _prepared(root: Path, index: str, wheels: Path) -> Iterator[_Bench]:
    """The contenders, and an image with pip and uv on the base that ours stands on."""
    root = root / "bench"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    base = _base(root)
    context = root / "tools"
    context.mkdir()
    (pip,) = wheels.glob("pip-*.whl")
    shutil.copy(pip, context)
    shutil.copy(Path(sys.executable).with_name("uv"), context / "uv")
    (context / "Dockerfile").write_text(_PREPARED.format(base=base, pip=pip.name))
    client = _client(context)
    bench = _Bench(root, index, client)
    reference = bench.lock()
    try:
        yield bench
    finally:
        _docker("image", "rm", "--force", reference, _THEIRS, _TOOLS)


def _base(root: Path) -> str:
    """The reference of our base, built where it is missing."""
    steps = {"one": {"type": "shell", "step_image": "debian-python", "command": "true"}}
    (root / "base.json").write_text(json.dumps({"steps": steps}))
    said = subprocess.run(
        [DISPATCH, "build", "base.json"], cwd=root, check=True, stdout=subprocess.PIPE, text=True
    )
    return said.stdout.split("\t")[1].strip()


def _client(context: Path) -> list[str]:
    """A docker command that can build with BuildKit: newer ones need a plugin, which may be missing."""
    found = dict.fromkeys(
        path
        for directory in os.environ["PATH"].split(os.pathsep)
        if os.access(path := str(Path(directory) / "docker"), os.X_OK)
    )
    env = {**ENVIRON, "DOCKER_BUILDKIT": "1"}
    for path in found:
        build = [path, "build", "-q", "--tag", _TOOLS, str(context)]
        if subprocess.run(build, env=env, capture_output=True).returncode == 0:
            return [path]
    raise SystemExit("no docker command here can build with BuildKit")


def _docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=False, capture_output=True)
