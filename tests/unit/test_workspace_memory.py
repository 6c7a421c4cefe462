"""What is particular to a workspace in memory: where things are, how long, and for whom."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.info import StepState
from dispatch.location import Spool
from dispatch.params import Params
from dispatch.testing.contracts_workspace import DONE, Add, complete, fill, record
from dispatch.workspace.base import StepCache, StepHeldError, Workspace
from dispatch.workspace.memory_cache import MemoryStepCache
from dispatch.workspaces import MemoryWorkspace

ROOT = Path(__file__).parents[2]


def spooled(workspace: MemoryWorkspace, unique_id: str) -> Path:
    """The directory with a result's files."""
    location = workspace.locate(unique_id)
    assert isinstance(location, Spool)
    return location.path


def test_each_is_new() -> None:
    """Two workspaces share nothing."""
    one, two = MemoryWorkspace(), MemoryWorkspace()
    assert one.url != two.url
    one.step_cache[Add(a=1)] = 2
    one.register_run([], "first")
    assert (len(two.step_cache), two.registered_runs(), two.num_steps()) == (0, {}, 0)


@pytest.mark.parametrize("way", ["url", "class", "type"])
def test_ways_to_make_one(way: str) -> None:
    """A URL without a name, the class and the registered name each make a new one."""

    def make() -> Workspace:
        if way == "url":
            return Workspace.from_url("memory://")
        return MemoryWorkspace() if way == "class" else Workspace.from_params(Params({"type": "memory"}))

    one, two = make(), make()
    assert isinstance(one, MemoryWorkspace)
    assert one is not two
    assert Workspace.from_url(one.url) is one


def test_a_name_of_ones_own() -> None:
    """A URL with a name leads to the workspace of that name, while somebody has it."""
    one = Workspace.from_url("memory://mine")
    one.register_run([], "first")
    assert Workspace.from_url("memory://mine") is one
    assert one.url == "memory://mine"
    del one
    gc.collect()
    assert Workspace.from_url("memory://mine").registered_runs() == {}


@pytest.mark.parametrize(
    "url", ["memory://a/b", "memory:///x", "memory://a?b=c", "memory://a#b", "memory://../x"]
)
def test_urls_that_mean_nothing(url: str) -> None:
    """A path, query or fragment is refused."""
    with pytest.raises(ConfigurationError, match="memory"):
        Workspace.from_url(url)


def test_values_need_no_directory() -> None:
    """Plain values make no file; a directory is made when a file is asked for."""
    workspace, step = MemoryWorkspace(), Add(a=1)
    workspace.step_starting(step)
    workspace.step_finished(step, {"a": [1]})
    assert workspace.step_cache[step] == {"a": [1]}
    assert workspace.step_info(step).result_location == "memory"
    assert not workspace.has_directory
    path = spooled(workspace, step.unique_id)
    assert workspace.has_directory
    assert (path / "data.json").read_text() == '{"a": [1]}\n'
    assert spooled(workspace, step.unique_id) == path
    assert workspace.step_cache[step] == {"a": [1]}
    workspace.verify(step.unique_id, deep=True)


def test_the_directory_goes_with_the_workspace() -> None:
    """Files are removed when the workspace is closed, and when nobody has it any more."""
    workspace = MemoryWorkspace()
    complete(workspace, record())
    path = spooled(workspace, "Made-one")
    workspace.close()
    assert not path.exists()
    assert (workspace.num_steps(), workspace.registered_runs()) == (0, {})
    complete(workspace, record())
    path = spooled(workspace, "Made-one")
    del workspace
    gc.collect()
    assert not path.exists()


PROGRAM = """
import os, sys
from dispatch.testing.contracts_workspace import complete, record
from dispatch.workspaces import MemoryWorkspace
workspace = MemoryWorkspace()
complete(workspace, record())
path = workspace.locate("Made-one").path
print(path, flush=True)
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(path.exists(), flush=True)
"""


def test_the_directory_goes_with_the_process() -> None:
    """Files are removed at the end of the process that made them, and not at that of a fork of it."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    path, survived = found.stdout.split()
    assert survived == "True"
    assert not Path(path).exists()


def test_nobody_else_may_look(tmp_path: Path) -> None:
    """The directory is for our account alone."""
    workspace = MemoryWorkspace()
    complete(workspace, record())
    path = spooled(workspace, "Made-one")
    private = next(parent for parent in path.parents if parent.name.startswith("dispatch-memory-"))
    assert private.stat().st_mode & 0o077 == 0
    assert private.stat().st_uid == os.getuid()
    assert not path.is_relative_to(tmp_path)


def test_pickled_for_another_process() -> None:
    """In another process the copy is an empty workspace of the same name."""
    workspace = MemoryWorkspace()
    workspace.register_run([], "first")
    code = (
        "import pickle, sys; ws = pickle.loads(sys.stdin.buffer.read());"
        "print(ws.url, dict(ws.registered_runs()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=pickle.dumps(workspace), capture_output=True, check=True
    )
    assert found.stdout.decode() == f"{workspace.url} {{}}\n"


def test_one_of_many_claims() -> None:
    """Of many threads that claim a step at once exactly one gets it."""
    workspace = MemoryWorkspace()
    got: list[int] = []
    refused: list[StepHeldError] = []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        try:
            got.append(workspace.claim(record(), "run").number)
        except StepHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (got, len(refused)) == ([1], 7)


def test_ends_that_come_from_many_threads() -> None:
    """Commits of different steps do not disturb each other."""
    workspace = MemoryWorkspace()
    steps = [record(f"step{number}") for number in range(20)]

    def run(number: int) -> None:
        attempt = workspace.claim(steps[number], "run")
        fill(attempt, f"{number}\n")
        workspace.commit(attempt, steps[number], DONE)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [workspace.step_cache[step] for step in steps] == list(range(20))
    assert workspace.num_steps(state=StepState.COMPLETED) == 20


def test_a_cache_without_a_workspace() -> None:
    """The cache can be used by itself, under its registered name."""
    cache = StepCache.by_name("memory")()
    assert isinstance(cache, MemoryStepCache)
    cache[Add(a=1)] = [1]
    assert cache[Add(a=1)] == [1]
    assert len(MemoryStepCache()) == 0
