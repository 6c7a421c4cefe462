"""What `executor: {type: beaker, …}` may say, in a file and in a program, and how mistakes are answered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import beaker
import pytest

from dispatch.errors import ConfigurationError
from dispatch.settings import ExecutorSetting, Settings, WorkspaceSetting, read_settings
from dispatch.settings.beaker import BeakerSetup, setup_of
from dispatch.settings.beakerdata import DataMount, EnvVar

HOME = Path("/home/someone")
TOKEN = "ghp_0123456789"

MINIMAL = """
executor:
  type: beaker
  beaker_workspace: ai2/my-workspace
  clusters:
    - ai2/general-cirrascale
"""
GPU = """
executor:
  type: beaker
  beaker_workspace: ai2/my-workspace
  docker_image: ghcr.io/allenai/pytorch:1.12.0-cuda11.3-python3.9
  venv_name: base
  clusters:
    - ai2/general-cirrascale
"""


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "dispatch.yml"
    path.write_text(text)
    return read_settings(path, HOME, WorkspaceSetting("local", tmp_path / "workspace"))


def setup(tmp_path: Path, *lines: str) -> BeakerSetup:
    text = "\n".join(("executor:", "  type: beaker", *(f"  {line}" for line in lines)))
    found = settings(tmp_path, text).executor.beaker
    assert found is not None
    return found


def test_the_seeds_examples(tmp_path: Path) -> None:
    """Both settings files of the seed are read as they stand."""
    place: dict[str, Any] = {"beaker_workspace": "ai2/my-workspace", "clusters": ("ai2/general-cirrascale",)}
    assert settings(tmp_path, MINIMAL).executor == ExecutorSetting("beaker", beaker=BeakerSetup(**place))
    image = "ghcr.io/allenai/pytorch:1.12.0-cuda11.3-python3.9"
    with_image = BeakerSetup(**place, docker_image=image, venv_name="base")
    assert settings(tmp_path, GPU).executor == ExecutorSetting("beaker", beaker=with_image)


def test_the_type_alone(tmp_path: Path) -> None:
    """A bare word leaves everything open; no limit to how many steps run is written as the seed does."""
    assert settings(tmp_path, "executor: beaker").executor == ExecutorSetting("beaker")
    assert settings(tmp_path, "executor: {type: beaker, parallelism: -1}").executor.parallelism == -1


def test_every_name_of_the_seed(tmp_path: Path) -> None:
    """Each parameter becomes a typed value; what is for the client of Beaker goes on to it."""
    found = setup(
        tmp_path,
        "clusters: ai2/one",
        "beaker_workspace: my-workspace",
        f"github_token: {TOKEN}",
        "beaker_image: ai2/conda",
        "datasets: ['me/data:/data', 'me/data:part:/part', '/net/nfs:/net/nfs', 'weka://bucket:/weka']",
        "env_vars: ['A=1=2', {name: B, secret: MY_B}, {name: C, value: 3}]",
        "venv_name: base",
        "install_cmd: pip install .[dev]",
        "priority: high",
        "allow_dirty: true",
        "budget: ai2/oe",
        "preemptible: false",
        "min_runtime: 1h",
        "timeout: 2d",
        "default_org: ai2",
        "agent_address: https://beaker.example",
    )
    assert found == BeakerSetup(
        clusters=("ai2/one",),
        beaker_workspace="my-workspace",
        github_token=TOKEN,
        beaker_image="ai2/conda",
        datasets=(
            DataMount("/data", "beaker", "me/data"),
            DataMount("/part", "beaker", "me/data", "part"),
            DataMount("/net/nfs", "host_path", "/net/nfs"),
            DataMount("/weka", "weka", "bucket"),
        ),
        env_vars=(EnvVar("A", "1=2"), EnvVar("B", secret="MY_B"), EnvVar("C", "3")),
        venv_name="base",
        install_cmd="pip install .[dev]",
        priority="high",
        allow_dirty=True,
        budget="ai2/oe",
        preemptible=False,
        min_runtime=3600.0,
        timeout=172800.0,
        options={"default_org": "ai2", "agent_address": "https://beaker.example"},
    )
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    "mount",
    [
        "{source: {host_path: /net}, mount_path: /net}",
        "{source: {hostPath: /net}, mountPath: /net}",
        "'/net:/net'",
    ],
)
def test_spellings_of_a_mount(tmp_path: Path, mount: str) -> None:
    """A mount is written with the fields of beaker-py 1, as Beaker's own JSON, or in short."""
    assert setup(tmp_path, f"datasets: [{mount}]").datasets == (DataMount("/net", "host_path", "/net"),)


def test_variables_as_a_mapping(tmp_path: Path) -> None:
    """Variables may be written as those of the settings are."""
    assert setup(tmp_path, "env_vars: {A: x, B: 2}").env_vars == (EnvVar("A", "x"), EnvVar("B", "2"))


def test_objects_of_beaker_py() -> None:
    """Programs give beaker-py 2's objects, or those of beaker-py 1 that have the same fields."""
    old = SimpleNamespace(
        source=SimpleNamespace(beaker=None, host_path="/net", weka=None), mount_path="/net", sub_path=None
    )
    found = setup_of(
        {
            "datasets": [beaker.BeakerDataMount.new("/d", sub_path="s", beaker="me/d", mode="readonly"), old],
            "env_vars": [beaker.BeakerEnvVar("A", "1"), SimpleNamespace(name="B", value=None, secret="S")],
            "priority": beaker.BeakerJobPriority.urgent,
            "clusters": ("ai2/one",),
            "venv_name": None,
        }
    )
    assert found == BeakerSetup(
        clusters=("ai2/one",),
        datasets=(DataMount("/d", "beaker", "me/d", "s", "readonly"), DataMount("/net", "host_path", "/net")),
        env_vars=(EnvVar("A", "1"), EnvVar("B", secret="S")),
        priority="urgent",
    )


@pytest.mark.parametrize(
    ("line", "fact", "remedy"),
    [
        ("docker_image: a:1\n  beaker_image: b", "'beaker_image' and 'docker_image' exclude", "keep one"),
        ("workspace: x", "executor: 'workspace' does not belong here", "write `workspace:` at the top"),
        ("include_package: x", "executor: 'include_package' does", "write `include_package:` at the top"),
        ("cluster: x", "unknown key 'cluster', did you mean 'clusters'?", "use one of: type, para"),
        ("priority: hi", "unknown 'hi'", "use one of: low, normal, high, urgent, immediate"),
        ("clusters: [--x]", "executor.clusters: expected names such as ORG/CLUSTER", ""),
        ("docker_image: 'x; rm'", "executor.docker_image: expected the name of an image", ""),
        ("venv_name: '$(x)'", "executor.venv_name: expected the name of an environment", ""),
        ("datasets: [x]", "'x' is not understood", "write DATASET:/path"),
        ("datasets: [{source: {beaker: x}}]", "a mount needs `source` and `mount_path`", "or write DATASET"),
        ("datasets: ['x:y']", "expected an absolute path below /", ""),
        ("datasets: ['x:/src/y']", "'/src/y' lies in a place that is taken", "mount it elsewhere"),
        ("datasets: ['x:/a', 'y:/a/b']", "'/a/b' and '/a' lie within each other", "side by side"),
        ("datasets: [{source: {result: t}, mount_path: /a}]", "`result` cannot be mounted", "use one of"),
        ("datasets: [{source: {beaker: a, weka: b}, mount_path: /a}]", "a source names one thing", "use one"),
        ("env_vars: [PASSWORD]", "a variable says no value", "write NAME=VALUE"),
        ("env_vars: [DISPATCH_X=1]", "variables that begin with DISPATCH_", ""),
        ("env_vars: [A=1, A=2]", "'A' is there twice", "name it once"),
        ("env_vars: [{name: A, value: x, secret: y}]", "A: has both `value` and `secret`", "keep one"),
        ("min_runtime: soon", "'soon' is not a duration", "write a number of seconds"),
        ("scheduler: 3", "executor.scheduler: expected keys with values", ""),
    ],
)
def test_mistakes(tmp_path: Path, line: str, fact: str, remedy: str) -> None:
    """Each mistake is answered with its place, the fact and what to write."""
    with pytest.raises(ConfigurationError) as caught:
        setup(tmp_path, line)
    assert caught.value.message.startswith(f"{tmp_path}/dispatch.yml:")
    assert fact in caught.value.message
    assert remedy in caught.value.remedy


def test_a_secret_written_in_the_place_of_its_name_is_not_repeated(tmp_path: Path) -> None:
    """Whoever writes a token where a name belongs does not find it in the log."""
    for line in ("env_vars: ['se cret']", "env_vars: [{name: A, secret: 'se cret'}]"):
        with pytest.raises(ConfigurationError) as caught:
            setup(tmp_path, line)
        assert "se cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheduler", "found"),
    [
        ("available", {"type": "available"}),
        ("{type: mine, share: 2}", {"type": "mine", "share": 2}),
        ("{clusters: [ai2/b], priority: low}", {"clusters": ["ai2/b"], "priority": "low"}),
    ],
)
def test_a_scheduler_beside_clusters_or_priority_warns(tmp_path: Path, scheduler: str, found: Any) -> None:
    """The scheduler counts; what it makes superfluous is said once for each."""
    read = setup(tmp_path, f"scheduler: {scheduler}", "clusters: [ai2/a]", "priority: low")
    assert read.scheduler == found
    assert [notice.partition("executor: ")[2] or notice for notice in read.notices]
    assert ["'clusters' is ignored" in read.notices[0], "'priority' is ignored" in read.notices[1]] == [
        True
    ] * 2
    assert setup(tmp_path, f"scheduler: {scheduler}").notices == ()


def test_a_later_spelling_is_taken(tmp_path: Path) -> None:
    """What the ancestor's later days know is accepted, and what has no meaning here is said to have none."""
    assert "'google_token' is not used" in setup(tmp_path, "google_token: x").notices[0]
    expected = WorkspaceSetting("beaker", None, {"beaker_workspace": "ai2/w"})
    for key in ("workspace", "beaker_workspace"):
        read = settings(tmp_path, f"workspace: {{type: beaker, {key}: ai2/w}}").workspace
        assert (read, read.url) == (expected, "beaker://ai2/w")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("workspace: {type: beaker}", "workspace: does not say which"),
        ("workspace: {type: beaker, workspace: a, beaker_workspace: b}", "names its workspace twice"),
        ("workspace: {type: beaker, beaker_workspace: a, dir: b}", "unknown key 'dir'"),
    ],
)
def test_a_workspace_on_beaker_is_named_once(tmp_path: Path, text: str, fact: str) -> None:
    """A workspace on Beaker says which one it is, and takes what the client of Beaker takes."""
    with pytest.raises(ConfigurationError, match=fact):
        settings(tmp_path, text)
