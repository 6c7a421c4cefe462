"""Images of a team in a real registry: only what is lacking is sent, there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from dispatch._docker.images import image_record
from dispatch._docker.stock import held
from dispatch._registry import RegistryDoor, docker_logins
from dispatch.environment import LocalId
from dispatch.errors import ImageError
from dispatch.image.builder import Builder
from dispatch.image.maker import Tools
from dispatch.image.plan import Action, BuildPlan, Elsewhere, Generated, plan_images
from dispatch.image.ports import SharedImage
from dispatch.image.report import BuildReport
from dispatch.image.saved import Saved
from dispatch.image.sharing import Sharing, place_of
from dispatch.image.shipping import Shipping
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import FakeHelper, FakeImageStore, FakeInstaller, FakeRootfs
from dispatch.testing.registries import RealRegistry, docker_registry
from dispatch.testing.reporting import RecordingReporter

PACKAGES = {"numpy": {"numpy/__init__.py": "x = 1\n"}, "scipy": {"scipy/__init__.py": "y = 1\n"}}
CATALOGUE = environments(base=debian_image(), ml=pip_image("ml"), more=pip_image("more"))
LOCKS = FakeLocks(
    {"base": debian_lock(), "ml": pip_lock("numpy==2.0"), "more": pip_lock("numpy==2.0", "scipy==1.0")}
)


class Engine(FakeImageStore):
    """An engine that tells which layers came in, by their numbers, and gives none away."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[list[str]] = []

    @property
    def stock(self) -> Engine:
        """Itself."""
        return self

    def lowest_held(self, diff_ids: Sequence[str]) -> int:
        """As the stock of an engine."""
        return held(self.images.values(), diff_ids)

    def save(self, image_id: str) -> Saved:
        """Refuse: what was built here is in the cache."""
        raise AssertionError(f"{image_id} is saved")

    def _take(self, parts: Mapping[str, bytes]) -> None:
        self.came.append(sorted(name for name in parts if name.startswith("layer-")))
        super()._take(parts)


class Machine:
    """One machine of the team."""

    def __init__(self, root: Path, registry: RealRegistry) -> None:
        self.engine = Engine()
        self.cache = root
        door = RegistryDoor(registry.host, docker_logins({}, root))
        place = place_of(f"{registry.host}/team")
        self.shared = Sharing(Shipping(door, root), place, self.engine, root)
        self.told = RecordingReporter()

    def plan(self, *names: str) -> BuildPlan:
        """Plan."""
        return plan_images(names, CATALOGUE, LOCKS, self.engine, None, Elsewhere(None, self.shared))

    def build(self, *names: str) -> BuildReport:
        """Plan and build."""
        installer = FakeInstaller(PACKAGES)
        tools = Tools(self.engine, FakeHelper(), installer, FakeRootfs(), "0:0", shared=self.shared)
        report = Builder(tools, self.cache, clock=lambda: 0.0).build(self.plan(*names), self.told)
        report.raise_failures()
        return report

    def push(self, name: str) -> SharedImage:
        """Push what was built."""
        planned = self.plan(name).of(name)
        assert isinstance(planned.source, Generated) and planned.image is not None
        return self.shared.push(name, planned.source.spec, planned.image.id, self.told)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that is empty."""
    with docker_registry(tmp_path / "registry") as registry:
        yield registry


def test_there_and_back(registry: RealRegistry, tmp_path: Path) -> None:
    """What one machine pushed another one fetches, with the same ID, but for layers that it holds."""
    first, second = (Machine(tmp_path / name, registry) for name in ("first", "second"))
    built = first.build("ml", "more")
    pushed = [first.push(name) for name in ("ml", "more")]
    assert pushed[0].reference.startswith(f"{registry.host}/team/dispatch@sha256:")
    assert first.push("ml").reference == pushed[0].reference
    fetched = second.build("ml", "more")
    assert fetched.images == built.images
    assert {name: done.action for name, done in fetched.done.items()} == dict.fromkeys(
        ("ml", "more"), Action.FETCH
    )
    # Both stand on one base, whose layer came with the first of them.
    assert sorted(second.engine.came) == [
        ["layer-0.tar", "layer-1.tar", "layer-2.tar"],
        ["layer-1.tar", "layer-2.tar"],
    ]
    assert registry.damaged() == []


def test_an_image_that_vanished_from_the_engine(registry: RealRegistry, tmp_path: Path) -> None:
    """It cannot be pushed, and that is said."""
    machine = Machine(tmp_path / "first", registry)
    report = machine.build("ml")
    planned = machine.plan("ml").of("ml")
    machine.engine.images.clear()
    image = report.images["ml"]
    assert isinstance(planned.source, Generated) and isinstance(image, LocalId)
    with pytest.raises(ImageError, match="'ml': the engine no longer holds it"):
        machine.shared.push("ml", planned.source.spec, image.id, machine.told)
    assert machine.shared.find(planned.source.spec.tag("ml"), "linux/amd64") is None


@pytest.mark.parametrize(
    ("stocked", "most"),
    [([], 0), ([["a"], ["a", "b", "x"]], 2), ([["b", "a"]], 0), ([["a", "b", "c", "d"]], 3)],
)
def test_layers_that_need_not_be_sent(stocked: list[list[str]], most: int) -> None:
    """The lowest layers that some image has, too, as far as they are the same; none in containerd stores."""
    for extra, expected in ({}, most), ({"Descriptor": {"digest": "x"}}, 0):
        records = [
            image_record({"Id": json.dumps(layers), "RootFS": {"Layers": layers}, **extra})
            for layers in stocked
        ]
        assert held(records, ["a", "b", "c"]) == expected
