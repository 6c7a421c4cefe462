"""Graphs of trivial Python steps on this machine, without images: ours and Tango's, in turn.

The cost of a step is a slope: the time of a whole `dispatch run` of 101 steps less that of one of a single
step, over 100, so that start-up and what is done once a run cancel out. ``first`` has nothing to go by;
``cached`` is the same command again.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
from harness import CHECKOUT, DISPATCH, ENVIRON, INSIDE, MIB, RUNS, Row, Spent, milliseconds, seconds, spent

STEPS = 100
# Tango takes some fourteen seconds for a graph that it has not run.
THEIR_RUNS = max(1, RUNS // 4)
LARGE = (1, 1000, 10_000)
LARGE_RUNS = max(1, RUNS // 2)
CODE = """from typing import Any

from {package} import step


@step("one")
def one(n: int, of: Any = None) -> int:
    return n
"""
SETTINGS = "include_package: [trivial]\nworkspace: ./workspace\nexecutor: {type: local, parallelism: 1}\n"

Graph = Mapping[str, Any]


def _ref(n: int) -> dict[str, str]:
    return {"type": "ref", "ref": f"s{n}"}


def _one(n: int) -> dict[str, Any]:
    return {"type": "one", "n": n}


def fan(first: int, count: int) -> Graph:
    """One step, and all others take its result."""
    others = {f"s{n}": {**_one(n), "of": _ref(first)} for n in range(first + 1, first + count)}
    return {f"s{first}": _one(first), **others}


def chain(first: int, count: int) -> Graph:
    """Every step takes the result of the one before."""
    others = {f"s{n}": {**_one(n), "of": _ref(n - 1)} for n in range(first + 1, first + count)}
    return {f"s{first}": _one(first), **others}


def diamond(first: int, count: int) -> Graph:
    """One step, many that take its result, and one that takes all of theirs."""
    if count == 1:
        return fan(first, count)
    last = first + count - 1
    waist = [_ref(n) for n in range(first + 1, last)]
    return {**fan(first, count - 1), f"s{last}": {**_one(last), "of": waist}}


SHAPES: dict[str, Callable[[int, int], Graph]] = {"fan": fan, "chain": chain, "diamond": diamond}


@dataclass(frozen=True)
class Tool:
    """What runs a graph: the package that its steps import, and the command that runs them."""

    package: str
    command: tuple[str, ...]
    env: Mapping[str, str]

    def first_and_cached(self, place: Path, graph: Graph) -> tuple[float, float]:
        """Run a graph in a new repository, and again; the time of the latter is a median of three."""
        with _repository(place, self.package, graph):
            run = lambda: seconds(self.command, cwd=place, env=self.env)  # noqa: E731
            return run(), statistics.median((run(), run(), run()))


@contextmanager
def _repository(place: Path, package: str, graph: Graph) -> Iterator[Path]:
    place.mkdir()
    (place / "trivial.py").write_text(CODE.format(package=package))
    (place / "dispatch.yml").write_text(SETTINGS)
    (place / ".gitignore").write_text("workspace\n")
    (place / "experiment.json").write_text(json.dumps({"steps": graph}))
    for command in (
        ["init", "-q"],
        # Tango asks for the repository's origin, and fails where there is none.
        ["remote", "add", "origin", "https://git.invalid/bench/bench.git"],
        ["add", "-A"],
        ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"],
    ):
        subprocess.run(["git", *command], cwd=place, check=True)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@dataclass(frozen=True)
class Slopes:
    """Seconds a step of one graph: of each round, the first run and the cached one."""

    first: list[float]
    cached: list[float]

    def measure(self, tool: Tool, scratch: Path, shape: str, base: int) -> None:
        """Add a round; ``base`` makes the arguments of its steps new to every cache."""
        graph = SHAPES[shape]
        one = tool.first_and_cached(scratch / "one", graph(base, 1))
        many = tool.first_and_cached(scratch / "many", graph(base + 1, STEPS + 1))
        self.first.append((many[0] - one[0]) / STEPS)
        self.cached.append((many[1] - one[1]) / STEPS)

    def medians(self, skip: int = 0) -> tuple[float, float]:
        """Return the medians of both, without the first ``skip`` rounds."""
        return statistics.median(self.first[skip:]), statistics.median(self.cached[skip:])


def _tools(env: Mapping[str, str]) -> tuple[Tool, Tool]:
    ours = Tool("dispatch", (DISPATCH, "run", "experiment.json"), env)
    tango = str(environments.tango() / "tango")
    words = (tango, "run", "experiment.json", "--include-package", "trivial", "--workspace", "workspace")
    return ours, Tool("tango", words, env)


def _small(scratch: Path, env: Mapping[str, str]) -> list[Row]:
    ours, theirs = _tools(env)
    mine = {shape: Slopes([], []) for shape in SHAPES}
    other = {shape: Slopes([], []) for shape in SHAPES}
    base = 0
    for n in range(RUNS + 1):
        for shape in SHAPES:
            base += 1000
            mine[shape].measure(ours, scratch, shape, base)
            if 0 < n <= THEIR_RUNS:
                other[shape].measure(theirs, scratch, shape, base)
    rows = []
    for shape in SHAPES:
        # The first round found the benchmark's caches empty.
        first, cached = mine[shape].medians(skip=1)
        their_first, their_cached = other[shape].medians()
        rows += [
            Row(
                f"{shape} of {STEPS} trivial steps, first: a step; Tango's",
                f"{milliseconds(first)}; {milliseconds(their_first)} ({their_first / first:.0f} ×)",
                "≤ 15 ms",
            ),
            Row(
                f"{shape} of {STEPS}, cached: a step; Tango's",
                f"{milliseconds(cached)}; {milliseconds(their_cached)}",
                "≤ 1 ms",
            ),
        ]
    return rows


def _parallel(scratch: Path, env: Mapping[str, str]) -> Row:
    """Two at a time against one at a time, whole commands, in turn."""
    ratios = []
    for n in range(RUNS + 1):
        taken = []
        for jobs in (1, 2):
            command = (DISPATCH, "run", "experiment.json", "-j", str(jobs))
            graph = fan(1_000_000 + 1000 * (2 * n + jobs), STEPS)
            taken.append(Tool("dispatch", command, env).first_and_cached(scratch / "fan", graph)[0])
        ratios.append(taken[1] / taken[0])
    return Row(
        f"fan of {STEPS}, first: `-j 2` over `-j 1`, whole commands",
        f"{statistics.median(ratios[1:]):.2f} ×",
        "≤ 1.05 ×",
    )


def _cached(scratch: Path, env: Mapping[str, str], shape: str) -> list[Row]:
    """Cached runs of large graphs; their results are put there without running them."""
    found: dict[int, list[Spent]] = {count: [] for count in LARGE}
    complete = (str(Path(DISPATCH).with_name("python")), str(INSIDE / "complete.py"), "experiment.json")
    for count in LARGE:
        with _repository(scratch / "large", "dispatch", SHAPES[shape](0, count)) as place:
            seconds(complete, cwd=place, env={**env, "PYTHONPATH": str(CHECKOUT)})
            command = (DISPATCH, "run", "experiment.json", "--json")
            found[count] = [spent(command, cwd=place, env=env) for _ in range(LARGE_RUNS + 1)][1:]
            _all_cached(command, place, env)
    one, some, many = (statistics.median(each.seconds for each in found[count]) for count in LARGE)
    lower, upper = (some - one) / (LARGE[1] - LARGE[0]), (many - some) / (LARGE[2] - LARGE[1])
    peak = max(each.peak for each in found[LARGE[2]]) / MIB
    return [
        Row(f"{shape}, cached: a step from 1 to {LARGE[1]} steps", milliseconds(lower), "≤ 1 ms"),
        Row(
            f"{shape}, cached: a step from {LARGE[1]} to {LARGE[2]} steps, over the former",
            f"{milliseconds(upper)}, {upper / lower:.2f} ×",
            "≤ 1 ms, linear",
        ),
        Row(f"{shape} of {LARGE[2]} steps, cached: peak memory", f"{peak:.0f} MiB", "≤ 200 MB"),
    ]


def _all_cached(command: tuple[str, ...], place: Path, env: Mapping[str, str]) -> None:
    """Make sure that what was measured is what was meant."""
    said = subprocess.run(command, cwd=place, env=dict(env), check=True, stdout=subprocess.PIPE).stdout
    verdicts = {step["verdict"] for step in json.loads(said)["steps"]}
    if verdicts != {"cached"}:
        raise SystemExit(f"not all steps were cached: {verdicts}")


def rows() -> list[Row]:
    """Measure with caches of the benchmark's own."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        env = {**ENVIRON, "XDG_CACHE_HOME": str(scratch / "cache")}
        return [
            *_small(scratch, env),
            _parallel(scratch, env),
            *_cached(scratch, env, "fan"),
            *_cached(scratch, env, "chain"),
        ]
