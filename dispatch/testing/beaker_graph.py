"""A user's project whose steps are jobs on a local Beaker, and which say on a shared path that they ran.

Owns a graph of steps in busybox, each of which appends a line to a file of its own: what was computed twice
shows there, whatever became of the job. A server of it is told to let jobs mount that path.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch._beaker import BeakerDoor
from dispatch.testing.beaker import BeakerProcess, LocalBeaker
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Done, Project

WORKSPACE = "beaker://ai2/my-workspace"
CLUSTER = "ai2/general-cirrascale"
# The last line comes after the result is there: a job that was ended before it has not run in full.
COMMAND = """\
echo begun >> /shared/"$DISPATCH_STEP_NAME"
{before}
for input in {inputs}; do cat "$input"/value; done | cat - > "$DISPATCH_OUTPUT_DIR"/value
echo {name} >> "$DISPATCH_OUTPUT_DIR"/value
echo ended >> /shared/"$DISPATCH_STEP_NAME"
"""


@dataclass(frozen=True)
class Graph:
    """Steps by name, and the names of those that each one needs."""

    needs: Mapping[str, tuple[str, ...]]

    def value(self, name: str) -> str:
        """What a step's result must be."""
        return "".join(self.value(need) for need in self.needs[name]) + f"{name}\n"

    @property
    def last(self) -> list[str]:
        """The steps that no other needs."""
        needed = {need for needs in self.needs.values() for need in needs}
        return [name for name in self.needs if name not in needed]

    def config(self, tag: str, before: str = "sleep 0.2") -> str:
        """The graph as a config; another ``tag`` makes other identities. Steps do ``before`` first."""
        steps = {name: self._step(name, tag, before) for name in self.needs}
        return json.dumps({"steps": steps})

    def _step(self, name: str, tag: str, before: str) -> dict[str, Any]:
        inputs = {need: {"type": "ref", "ref": need} for need in self.needs[name]}
        words = " ".join(f'"$DISPATCH_INPUT_{need.upper()}"' for need in self.needs[name])
        command = COMMAND.format(name=name, inputs=words, before=before)
        return {"type": "shell", "inputs": inputs, "command": f": {tag}\n{command}", "step_network": "none"}


def layers(width: int, depth: int) -> Graph:
    """A graph of ``width * depth`` steps, each of which but the first needs two of the layer before."""
    needs: dict[str, tuple[str, ...]] = {}
    for layer in range(depth):
        for place in range(width):
            before = (place, (place + 1) % width) if layer else ()
            needs[f"s{layer}_{place}"] = tuple(dict.fromkeys(f"s{layer - 1}_{each}" for each in before))
    return Graph(needs)


@dataclass(frozen=True)
class OnBeaker:
    """A project and the path that its jobs share."""

    project: Project
    shared: Path

    def config(self, graph: Graph, tag: str, before: str = "sleep 0.2") -> str:
        """Write a graph's config, and return its name."""
        self.project.write({f"{tag}.json": graph.config(tag, before)})
        return f"{tag}.json"

    def calls(self) -> dict[str, Counter[str]]:
        """How often each step began, and how often it came to its end."""
        return {path.name: Counter(path.read_text().split()) for path in self.shared.iterdir()}

    def forget(self) -> None:
        """Forget what was called."""
        for path in self.shared.iterdir():
            path.unlink()

    def check(self, graph: Graph, run: str) -> None:
        """The results of a run that no other step needs, in which all others are, are what they must be."""
        for name in graph.last:
            place = self.project.dispatch("result", run, name).well().out.strip()
            assert (Path(place) / "value").read_text() == graph.value(name), name


def left(door: BeakerDoor) -> list[str]:
    """What is on Beaker that a run leaves only if it goes wrong: the uncommitted, jobs' data, secrets."""
    datasets = door.datasets.search("dispatch-")
    found = [each.name for each in datasets if not each.committed or each.name.startswith("dispatch-job-")]
    return [*found, *(name for name in door.secrets.names() if name.startswith("dispatch-"))]


def verdicts(done: Done) -> Counter[str]:
    """How many steps of a run came to which end."""
    return Counter(step["verdict"] for step in done.json()["steps"])


def project_on_beaker(
    beaker: LocalBeaker | BeakerProcess,
    root: Path,
    shared: Path,
    user: str = "me",
    executor: Mapping[str, Any] | None = None,
) -> OnBeaker:
    """A project that runs its steps on a server, in busybox, and keeps results there.

    Which authority is to be trusted the caller's environment says.

    ``executor`` are more settings of the executor's.
    """
    root.mkdir(parents=True)
    shared.mkdir(exist_ok=True)
    project = Project(
        root,
        {
            "BEAKER_CONFIG": str(beaker.layout.users / user / "config.yml"),
            "BEAKER_TOKEN": "",
            "BEAKER_ADDR": "",
            "XDG_CACHE_HOME": str(root.parent / f"{root.name}-cache"),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        },
    )
    settings = {
        "workspace": WORKSPACE,
        "executor": {
            "type": "beaker",
            "beaker_workspace": "ai2/my-workspace",
            "clusters": [CLUSTER],
            "docker_image": REFERENCE,
            "allow_dirty": True,
            "datasets": [{"source": {"hostPath": str(shared)}, "mountPath": "/shared"}],
            **(executor or {}),
        },
    }
    return OnBeaker(project.write({"dispatch.yml": json.dumps(settings)}).commit(), shared)


def server_config(shared: Path, cpus: int = 32, more: str = "") -> str:
    """The configuration of a server with one wide node, whose jobs may mount the shared path."""
    return f"""\
control: true
clusters:
  - name: {CLUSTER}
    nodes: [{{hostname: wide, cpus: {cpus}, memory: 256GiB, slots: {cpus}}}]
host_paths: [{shared}]
{more}"""
