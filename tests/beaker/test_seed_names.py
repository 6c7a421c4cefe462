"""The names that users know, with their parameters, defaults, registered names, URLs: nothing may drift."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from beaker import BeakerDataMount, BeakerDataSource, BeakerEnvVar
from beaker.types import BeakerJobPriority

import dispatch
import dispatch.beaker as face
from dispatch import Executor, Step, StepCache, StepResources, Workspace
from dispatch.beakerd.config import Config
from dispatch.errors import ConfigurationError, DispatchError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import options_of

# The signatures as they are documented, but for annotations and what they are called in.
SIGNATURES = [
    "BeakerWorkspace(beaker_workspace, **kwargs)",
    "BeakerStepCache(beaker_workspace=None, beaker=None)",
    "BeakerExecutor(workspace, clusters=None, include_package=None, beaker_workspace=None, github_token=None,"
    " beaker_image=None, docker_image=None, datasets=None, env_vars=None, venv_name=None, parallelism=-1,"
    " install_cmd=None, priority=None, allow_dirty=False, scheduler=None, **kwargs)",
    "SimpleBeakerScheduler(clusters, priority)",
    "ResourceAssignment(cluster, resources, priority)",
    "BeakerScheduler.schedule(self, step)",
]
OTHERS = ["BeakerScheduler", "ResourceAssignmentError", "DEFAULT_BEAKER_IMAGE"]
LATER = ["UnrecoverableResourceAssignmentError"]


def named(path: str) -> Any:
    """What a dotted name of the public face means."""
    found: Any = face
    for part in path.split("."):
        found = getattr(found, part)
    return found


def documented(signature: str) -> tuple[str, inspect.Signature]:
    """Read a signature of the table."""
    name, _, arguments = signature.partition("(")
    space: dict[str, Any] = {}
    exec(f"def documented({arguments}: ...", space)
    return name, inspect.signature(space["documented"])


@pytest.mark.parametrize("signature", SIGNATURES)
def test_parameters_and_defaults(signature: str) -> None:
    """Each parameter under its name, at its place, with its default; what was required may have one by now.
    What is ours beside is given by name alone, and never asked for."""
    name, wanted = documented(signature)
    ours = list(inspect.signature(named(name)).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD)
    shared = [each for each in ours if each.kind in kinds]
    for mine, theirs in zip(shared, wanted.parameters.values(), strict=True):
        assert (mine.name, mine.kind) == (theirs.name, theirs.kind)
        if theirs.default is not inspect.Parameter.empty:
            assert (type(mine.default), mine.default) == (type(theirs.default), theirs.default), mine.name
    for own in ours:
        if own.kind not in kinds:
            assert own.kind is inspect.Parameter.KEYWORD_ONLY
            assert own.default is not inspect.Parameter.empty, own.name


def test_all_of_them_are_there() -> None:
    """Exported, listed, and said what they are; a name that is not is an AttributeError, as everywhere."""
    names = [
        signature.partition("(")[0] for signature in SIGNATURES if "." not in signature.partition("(")[0]
    ]
    for name in (*names, *OTHERS, *LATER):
        assert name in face.__all__ and name in dir(face), name
        found = getattr(face, name)
        assert isinstance(found, str) or (inspect.getdoc(found) or "").strip(), name
    with pytest.raises(AttributeError, match="BeakerWorkspce"):
        _ = face.BeakerWorkspce
    assert face.DEFAULT_BEAKER_IMAGE == "ai2/conda"


def test_what_they_are() -> None:
    """Workspaces, caches, executors and schedulers under their registered names; the errors are errors."""
    assert issubclass(face.BeakerWorkspace, Workspace) and Workspace.by_name("beaker") is face.BeakerWorkspace
    assert issubclass(face.BeakerStepCache, StepCache) and StepCache.by_name("beaker") is face.BeakerStepCache
    assert issubclass(face.BeakerExecutor, Executor) and Executor.by_name("beaker") is face.BeakerExecutor
    assert face.BeakerScheduler.default_implementation == "simple"
    assert face.BeakerScheduler.by_name("simple") is face.SimpleBeakerScheduler
    assert "available" in face.BeakerScheduler.list_available()
    assert issubclass(face.SimpleBeakerScheduler, face.BeakerScheduler)
    assert issubclass(face.ResourceAssignmentError, DispatchError)
    assert issubclass(face.UnrecoverableResourceAssignmentError, DispatchError)
    with pytest.raises(TypeError):
        face.BeakerScheduler()  # type: ignore[abstract]


def test_an_assignment_is_a_tuple() -> None:
    """Its fields by name, by place, and unpacked; all three are asked for."""
    made = face.ResourceAssignment(["ai2/a"], StepResources(gpu_count=1), "high")
    cluster, resources, priority = made
    assert isinstance(made, tuple) and made._fields == ("cluster", "resources", "priority")
    assert (made.cluster, made.resources, made.priority) == (cluster, resources, priority)
    with pytest.raises(TypeError):
        face.ResourceAssignment("ai2/a", StepResources())  # type: ignore[call-arg]


def test_a_scheduler_of_ones_own() -> None:
    """Registered by name, made by name, and asked with a step."""

    @face.BeakerScheduler.register("test-seed-names")
    class Mine(face.BeakerScheduler):
        """Sends everything to one place."""

        def schedule(self, step: Any) -> face.ResourceAssignment:
            """See the base."""
            return face.ResourceAssignment("ai2/here", step.resources, "low")

    assert face.BeakerScheduler.by_name("test-seed-names") is Mine
    executor = face.BeakerExecutor("memory://", scheduler=Mine())
    assert isinstance(executor, Executor)


def test_the_face_is_light() -> None:
    """To import it, or a name that is only a word, loads neither the client nor gRPC."""
    code = (
        "import json, sys\nimport dispatch.beaker\n_ = dispatch.beaker.DEFAULT_BEAKER_IMAGE\n"
        "dispatch.beaker.ResourceAssignmentError\n"
        "print(json.dumps([name for name in ('grpc', 'beaker', 'docker', 'jinja2') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
    assert Path(dispatch.__file__).is_file()


def test_both_images_are_one_too_many() -> None:
    """They exclude each other, for programs as for settings."""
    with pytest.raises(ConfigurationError, match="exclude each other") as caught:
        face.BeakerExecutor("memory://", beaker_image="ai2/conda", docker_image="python:3.11")
    assert caught.value.remedy


@pytest.mark.parametrize("more", [{"clusters": ["ai2/a"]}, {"priority": "high"}])
def test_a_scheduler_beside_clusters_or_priority_warns(
    more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The argument is ignored, and that is said."""
    with caplog.at_level(logging.WARNING):
        face.BeakerExecutor("memory://", scheduler="simple", **more)
    assert any(next(iter(more)) in each.getMessage() for each in caplog.records)


@pytest.mark.parametrize(
    "datasets",
    [
        [{"source": {"hostPath": "/net/nfs"}, "mountPath": "/net/nfs"}],
        [{"source": {"host_path": "/net/nfs"}, "mount_path": "/net/nfs"}],
        [BeakerDataMount(source=BeakerDataSource(host_path="/net/nfs"), mount_path="/net/nfs")],
        None,
    ],
)
@pytest.mark.parametrize(
    "env_vars",
    [
        [{"name": "A", "value": "1"}, {"name": "B", "secret": "B_TOKEN"}],
        [BeakerEnvVar(name="A", value="1"), BeakerEnvVar(name="B", secret="B_TOKEN")],
        None,
    ],
)
@pytest.mark.parametrize("priority", ["high", BeakerJobPriority.high, None])
def test_the_client_s_own_objects(datasets: Any, env_vars: Any, priority: Any) -> None:
    """Data, variables and priorities as mappings with the old fields, as texts, and as beaker-py 2's."""
    made = face.BeakerExecutor(
        "memory://",
        ["ai2/general-cirrascale"],
        beaker_workspace="ai2/my-workspace",
        datasets=datasets,
        env_vars=env_vars,
        priority=priority,
    )
    assert isinstance(made, Executor)


def test_workspaces_by_url(beaker: LocalBeaker) -> None:
    """``beaker://org/name`` and the class mean the same; later spelled, too."""
    made = Workspace.from_url("beaker://ai2/my-workspace")
    assert isinstance(made, face.BeakerWorkspace) and made.url == "beaker://ai2/my-workspace"
    options: dict[str, Any] = options_of(beaker)
    for each in (
        face.BeakerWorkspace("ai2/my-workspace", **options),
        face.BeakerWorkspace(beaker_workspace="ai2/my-workspace", **options),
        face.BeakerWorkspace(workspace="ai2/my-workspace", **options),
    ):
        assert each.url == "beaker://ai2/my-workspace"
        assert each.num_registered_runs() == 0


def test_a_step_cache_of_a_client(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """By the workspace's name alone, or with a client of beaker-py's: what one stores the other finds."""
    beaker = beaker_of(Config())
    with beaker.client() as client:
        cache = face.BeakerStepCache("ai2/my-workspace", client)
        step = Kept(number=7)
        assert step not in cache and len(cache) == 0
        cache[step] = {"seven": 7}
        again = face.BeakerStepCache(beaker_workspace="ai2/my-workspace", beaker=client)
        assert step in again and again[step] == {"seven": 7} and len(again) == 1
        with pytest.raises(KeyError):
            _ = again[Kept(number=8)]


@Step.register("test-seed-names-kept")
class Kept(Step):
    """Something to keep."""

    def run(self, number: int) -> dict[str, int]:
        """Keep it."""
        return {"number": number}


def test_later_spellings() -> None:
    """What the ancestor called it afterwards is taken, too."""
    assert isinstance(face.BeakerExecutor("memory://", google_token="x"), Executor)
    assert StepResources(gpu_count=1, gpu_type="NVIDIA A100").gpu_type is not None
    assert issubclass(face.UnrecoverableResourceAssignmentError, Exception)
