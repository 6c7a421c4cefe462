"""Runs whose steps are placed: on clusters with the right GPUs, when there is room, as users' code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import BeakerDoor, Job
from dispatch.testing.beaker import BeakerProcess, Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_graph import OnBeaker, project_on_beaker, verdicts

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

SERVER = """\
control: true
clusters:
  - name: ai2/cpus
    nodes: [{{hostname: c1, cpus: 16, memory: 64GiB}}]
  - name: ai2/jupiter
    nodes:
      - {{hostname: j1, cpus: 16, memory: 64GiB, gpus: 2, gpu_type: NVIDIA_A100_80GB}}
      - {{hostname: j2, cpus: 16, memory: 64GiB, gpus: 2, gpu_type: NVIDIA_A100_80GB, cordoned: mended}}
  - name: ai2/saturn
    nodes: [{{hostname: s1, cpus: 16, memory: 64GiB, gpus: 1, gpu_type: NVIDIA_H100}}]
host_paths: [{shared}]
"""
NAMES = ["ai2/cpus", "ai2/jupiter", "ai2/saturn"]
COMMAND = """\
echo + >> /shared/held; sort /shared/held | uniq -c > /dev/null; sleep 1
cp /shared/held "$DISPATCH_OUTPUT_DIR"/seen; echo - >> /shared/held
"""


@pytest.fixture
def server(beakers: Beakers, tmp_path: Path) -> BeakerProcess:
    """A server with clusters of several kinds, of which one node is closed."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "server.yml").write_text(SERVER.format(shared=tmp_path / "shared"))
    return beakers.spawn(tmp_path / "server.yml")


@pytest.fixture
def ours(server: BeakerProcess) -> Any:
    """A door of our own."""
    made = door_of(server)
    yield made
    made.close()


def project(server: BeakerProcess, root: Path, executor: dict[str, Any]) -> OnBeaker:
    """A project with settings of its own for the executor."""
    return project_on_beaker(server, root / "project", root / "shared", executor=executor)


def steps(count: int, **options: Any) -> str:
    """A config of steps that are the same but for their names."""
    found = {
        f"s{number}": {"type": "shell", "command": f": {number}\n{COMMAND}", **options}
        for number in range(count)
    }
    return json.dumps({"steps": found})


def jobs(door: BeakerDoor) -> dict[str, Job]:
    """The only job of each step, by the step's name."""
    found = {}
    for each in door.experiments.search():
        (job,) = door.experiments.jobs(each.task_id)
        found[json.loads(each.description)["step"]] = job
    return found


def nodes(door: BeakerDoor) -> dict[str, str]:
    """Host names of all clusters by the nodes' ids."""
    return {node.id: node.hostname for name in NAMES for node in door.clusters.nodes(name)}


def test_simple_finds_the_type(server: BeakerProcess, ours: BeakerDoor, tmp_path: Path) -> None:
    """Steps wait in Beaker's queue for GPUs of their type; one that nothing can hold is refused before."""
    on = project(server, tmp_path, {"clusters": NAMES})
    on.project.write({"x.json": steps(3, step_resources={"gpu_type": "a100", "gpu_count": 1})})
    assert verdicts(on.project.dispatch("run", "x.json", "--json").well()) == {"completed": 3}
    hosts = nodes(ours)
    assert {hosts[job.node] for job in jobs(ours).values()} == {"j1"}
    on.project.write({"y.json": steps(4, step_resources={"gpu_type": "a100", "gpu_count": 3})})
    done = on.project.dispatch("run", "y.json")
    assert done.code == 2
    assert "step 's3': it asks for 3 GPUs of the type 'a100', which no cluster can ever give" in done.err
    assert len(jobs(ours)) == 3


def test_available_waits_for_room(server: BeakerProcess, ours: BeakerDoor, tmp_path: Path) -> None:
    """No job is submitted before its slot is free: none waits in Beaker's queue for another of the run."""
    scheduler = {"type": "available", "clusters": NAMES, "priority": "high"}
    on = project(server, tmp_path, {"clusters": None, "scheduler": scheduler})
    on.project.write({"x.json": steps(6, step_resources={"gpu_count": 1})})
    done = on.project.dispatch("run", "x.json", "--json").well()
    assert verdicts(done) == {"completed": 6}
    held = most = 0
    for line in (on.shared / "held").read_text().split():
        held += 1 if line == "+" else -1
        most = max(most, held)
    assert most <= 3
    hosts = nodes(ours)
    assert {hosts[job.node] for job in jobs(ours).values()} == {"j1", "s1"}
    waited = [job.scheduled - job.created for job in jobs(ours).values() if job.scheduled is not None]
    assert len(waited) == 6
    assert max(waited) < 5.0, waited


def test_the_readme_scheduler(server: BeakerProcess, ours: BeakerDoor, tmp_path: Path) -> None:
    """The scheduler of the README places steps, with beaker-py's client, once the queue there is empty."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(from dispatch\.beaker import BeakerScheduler.*?)```", text, re.DOTALL)
    on = project(
        server, tmp_path, {"clusters": None, "scheduler": {"type": "quiet", "cluster": "ai2/saturn"}}
    )
    settings = json.loads((on.project.root / "dispatch.yml").read_text())
    on.project.write(
        {
            "mine.py": code,
            "dispatch.yml": json.dumps({**settings, "include_package": ["mine"]}),
            "x.json": steps(2),
        }
    ).commit()
    assert verdicts(on.project.dispatch("run", "x.json", "--json").well()) == {"completed": 2}
    hosts = nodes(ours)
    assert {hosts[job.node] for job in jobs(ours).values()} == {"s1"}
