"""`dispatch run` and its kin with the executor for Beaker, as users call them: mistakes, changes, Ctrl-C."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dispatch.testing.beaker_up import beaker_up
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

EXECUTOR = "executor:\n  type: beaker\n  beaker_workspace: ai2/my-workspace\n"
ON_BEAKER = f"workspace: beaker://ai2/my-workspace\n{EXECUTOR}"
SHELL = f"  docker_image: {REFERENCE}\n"
ONE = "steps: {one: {type: shell, command: 'true'}}\n"
MINE = """\
from dispatch.beaker import BeakerScheduler, ResourceAssignment


@BeakerScheduler.register("mine")
class Mine(BeakerScheduler):
    def __init__(self, cluster: str):
        self.cluster = cluster

    def schedule(self, step):
        print(f"asked for {step.name}")
        return ResourceAssignment(self.cluster, step.resources, "low")
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of a user of a local Beaker."""
    with beaker_up(tmp_path_factory.mktemp("beaker")) as env:
        yield env


@pytest.fixture
def project(user: Mapping[str, str], tmp_path: Path) -> Project:
    """A repository of theirs."""
    (tmp_path / "project").mkdir()
    env = {**user, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return Project(tmp_path / "project", env=env).write({"experiment.yml": ONE})


@pytest.mark.parametrize(
    ("settings", "env", "code", "fact"),
    [
        (f"{EXECUTOR}  workspace: x\n", {}, 2, "executor: 'workspace' does not belong here"),
        (f"{EXECUTOR}  include_package: [x]\n", {}, 2, "write `include_package:` at the top"),
        (f"{EXECUTOR}  beaker_image: a\n  docker_image: b\n", {}, 2, "exclude each other"),
        (f"workspace: {{type: memory}}\n{EXECUTOR}", {}, 2, "results in memory would be lost"),
        (f"{ON_BEAKER}  clusters: [ai2/none]\n", {}, 2, "cluster ai2/none: is not on Beaker"),
        (f"{ON_BEAKER}  beaker_image: me/none\n", {}, 2, "image me/none: is not on Beaker"),
        (f"{ON_BEAKER}  scheduler: none\n", {}, 2, "no 'none' is registered"),
        (f"{ON_BEAKER}{SHELL}", {"BEAKER_TOKEN": "nonsense"}, 3, "the token is not valid here"),
        (f"{ON_BEAKER}{SHELL}", {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ""}, 3, "certificate is not trusted"),
        (f"{ON_BEAKER}  rpc_address: 127.0.0.1:9\n", {}, 3, "Beaker at 127.0.0.1:9 does not answer"),
        ("workspace: beaker://ai2/none\n", {}, 2, "workspace ai2/none: is not on Beaker"),
    ],
)
def test_mistakes(project: Project, settings: str, env: Mapping[str, str], code: int, fact: str) -> None:
    """Each is one error with a remedy, within seconds, before anything starts; never a traceback."""
    project.write({"dispatch.yml": settings}).commit()
    began = time.monotonic()
    done = project.dispatch("run", "experiment.yml", env=env)
    assert (done.code, len(done.errors())) == (code, 1), done.err
    assert fact in done.err
    assert "remedy:" in done.err
    assert "Traceback" not in done.err
    assert time.monotonic() - began < 30


def test_uncommitted_changes(project: Project) -> None:
    """Refused by default, with what to do; `allow_dirty` under the executor or at the top lets them run."""
    project.write({"dispatch.yml": f"{ON_BEAKER}{SHELL}"}).commit().write({"new.txt": "x"})
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 2
    assert "uncommitted changes, and steps on Beaker run what is committed" in done.err
    project.write({"dispatch.yml": f"{ON_BEAKER}{SHELL}  allow_dirty: true\n"})
    assert "running a snapshot of the working tree" in project.dispatch("run", "experiment.yml").well().err
    project.write({"dispatch.yml": f"allow_dirty: true\n{ON_BEAKER}{SHELL}"})
    project.dispatch("run", "experiment.yml").well()


def test_a_scheduler_of_the_users(project: Project) -> None:
    """It is registered by a module of theirs, and given what the settings say."""
    scheduler = "  scheduler: {type: mine, cluster: ai2/general-cirrascale}\ninclude_package: [placing]\n"
    own = "steps: {one: {type: shell, command: 'echo of its own'}}"
    files = {"placing.py": MINE, "dispatch.yml": f"{ON_BEAKER}{SHELL}{scheduler}", "experiment.yml": own}
    project.write(files).commit()
    assert "asked for one" in project.dispatch("run", "experiment.yml").well().out


def test_ctrl_c(project: Project) -> None:
    """Every experiment is cancelled within ten seconds; no secret and no half-written dataset stays."""
    steps = {
        f"s{number}": {
            "type": "shell",
            "command": f"echo {number}; sleep 300",
            "step_secrets": ["KEY"],
            "step_resources": {"cpu_count": 0.1},
        }
        for number in range(3)
    }
    config = json.dumps({"steps": steps})
    project.write({"dispatch.yml": f"{ON_BEAKER}{SHELL}", "experiment.yml": config}).commit()
    started = project.start(
        "dispatch", "run", "experiment.yml", "-n", "stopped", env={"KEY": "sesame-sesame"}
    )

    def running() -> bool:
        shown = project.dispatch("status", "stopped", "--json")
        return shown.code == 0 and shown.out.count('"running"') >= 3

    until(running, "all three steps run")
    began = time.monotonic()
    started.signal(signal.SIGINT, group=True)
    done = started.end()
    assert done.code == 130, done.err
    assert time.monotonic() - began < 20
    left = project.call("python3", "-c", LEFT).well().json()
    assert left == {"secrets": [], "uncommitted": [], "live": []}


LEFT = """
import json
from dispatch._beaker import BeakerDoor
door = BeakerDoor("ai2/my-workspace")
live = [e.name for e in door.experiments.search("", finalized=False)]
print(json.dumps({
    "secrets": [name for name in door.secrets.names() if name.startswith("dispatch-")],
    "uncommitted": [d.name for d in door.datasets.search("dispatch-") if not d.committed],
    "live": live,
}))
"""
