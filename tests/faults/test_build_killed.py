"""`dispatch build --push`, killed with -9 at random moments: nothing half is named, the next run is right."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch._docker import Door, engine_address
from dispatch._docker.owners import HELPER_LABEL, remove_abandoned
from dispatch._registry import RegistryDoor, docker_logins, parse_reference
from dispatch._registry.manifest import Manifest
from dispatch.image.spec import DIGEST_LABEL
from dispatch.testing.index import serving, wheel
from dispatch.testing.project import Project
from dispatch.testing.registries import RealRegistry, docker_registry

pytestmark = [pytest.mark.engine, pytest.mark.archive]

MOMENTS = max(5, int(100 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
BASE = "steps: {nothing: {type: shell, step_image: debian-python, command: 'true'}}"
PACKAGES = ("dispatch-test-one", "dispatch-test-two")
# Enough to be on its way for a while, and nothing that packs well.
CONTENT = 3 << 20


def config() -> str:
    """An image of packages, and one upon it by a Dockerfile."""
    env = {"pip": "requirements.in", "base": "debian-python"}
    images = {"env": env, "tool": {"dockerfile": "Dockerfile", "base": "env"}}
    steps = {name: {"type": "shell", "step_image": name, "command": "true"} for name in images}
    return json.dumps({"images": images, "steps": steps})


@dataclass(frozen=True)
class Yard:
    """A project, its caches, an engine and a registry, with what undisturbed builds gave."""

    project: Project
    cache: Path
    door: Door
    registry: RealRegistry

    def build(self, place: str) -> tuple[str, ...]:
        """The words of the command that has both images in a place of the registry."""
        return "dispatch", "build", "--push", f"{self.registry.host}/{place}", "x.json"

    def references(self) -> dict[str, str]:
        """What the images are called in the engine."""
        done = self.project.dispatch("build", "--dry-run", "x.json").well()
        return dict(line.split("\t") for line in done.out.splitlines())

    def id_of(self, reference: str) -> str | None:
        """The ID of an image of the engine."""
        record = self.door.inspect_image(reference)
        return record.id if record is not None else None

    def pushed(self, place: str, reference: str) -> str | None:
        """The ID of the image that the registry has under a tag."""
        door = RegistryDoor(self.registry.host, docker_logins({}, self.cache))
        tag = reference.partition(":")[2]
        found = door.manifest(parse_reference(f"{self.registry.host}/{place}/dispatch:{tag}"))
        assert found is None or isinstance(found, Manifest)
        return found.config.digest if found is not None else None

    def forget(self, references: dict[str, str], chance: random.Random) -> None:
        """Take images from the engine, and perhaps from the cache what they were made of."""
        for name in ("tool", "env"):
            record = self.door.inspect_image(references[name])
            for tag in record.tags if record is not None else ():
                self.door.remove_image(tag)
        lost = chance.choice(["", "layers", "bytecode", "locks"])
        if lost:
            shutil.rmtree(self.cache / "dispatch" / lost, ignore_errors=True)

    def helpers(self) -> list[str]:
        """The helper containers of this test's builds, once those of killed ones were swept away."""
        remove_abandoned(self.door.containers)
        found = []
        for listed in self.door.containers.labelled(HELPER_LABEL):
            state = self.door.containers.inspect(listed.name)
            if state is not None and any(each.startswith(f"{self.cache}/") for each in state.mounts.values()):
                found.append(listed.name)
        return found


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A project whose packages come from an index of this machine; its base is there."""
    door = Door(engine_address(os.environ))
    unset = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
    chance = random.Random(7)
    (tmp_path / "project").mkdir()
    first = Project(tmp_path / "project").write({"base.yml": BASE})
    first.dispatch("build", "--renew-base", "base.yml").well()
    with serving(tmp_path / "index") as index, docker_registry(tmp_path / "registry") as registry:
        for name in PACKAGES:
            text = f"DATA = {chance.randbytes(CONTENT // 2).hex()!r}\n"
            index.serve(name, f"{name.replace('-', '_')}-1.0-py3-none-any.whl", wheel(name, text))
        places = {"UV_CACHE_DIR": str(tmp_path / "uv"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        env = {**unset, **places, "PIP_INDEX_URL": index.address, "PIP_CONFIG_FILE": os.devnull}
        files = {
            "x.json": config(),
            "Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN echo tool > /tool\n",
            "requirements.in": "\n".join(PACKAGES),
        }
        project = Project(tmp_path / "project", env).write(files)
        project.dispatch("lock", "x.json").well()
        yield Yard(project, tmp_path / "cache", door, registry)
        for reference in reversed(project.dispatch("build", "--dry-run", "x.json").out.split()[1::2]):
            door.remove_image(reference)
    door.close()


def test_a_build_killed_at_any_moment(yard: Yard) -> None:
    """A name in engine and registry is always that of the whole image; a plain re-run ends the work."""
    chance = random.Random(23)
    named = yard.references()
    began = time.monotonic()
    yard.project.call(*yard.build("first")).well()
    longest = (time.monotonic() - began) * 1.1
    whole = yard.id_of(named["env"])
    assert whole is not None
    for moment in range(MOMENTS):
        place = f"m{moment}"
        yard.forget(named, chance)
        started = yard.project.start(*yard.build(place))
        time.sleep(chance.uniform(0.0, longest))
        started.signal(signal.SIGKILL, group=False)
        started.end()
        assert yard.id_of(named["env"]) in (None, whole)
        assert yard.pushed(place, named["env"]) in (None, whole)
        assert yard.pushed(place, named["tool"]) in (None, yard.id_of(named["tool"]))
        yard.project.call(*yard.build(place)).well()
        assert yard.id_of(named["env"]) == yard.pushed(place, named["env"]) == whole
        tool, env = (yard.door.inspect_image(named[name]) for name in ("tool", "env"))
        assert tool is not None and env is not None and yard.pushed(place, named["tool"]) == tool.id
        assert tool.diff_ids[: len(env.diff_ids)] == env.diff_ids
        assert tool.labels[DIGEST_LABEL].startswith(named["tool"].rpartition("--")[2])
        assert list((yard.cache / "dispatch" / "staging").iterdir()) == []
        assert yard.helpers() == []
    assert yard.registry.damaged() == []
