"""Images that a registry holds: looked for where the engine has none, fetched, never required; and pushed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from dispatch.app.pushing import Pushing
from dispatch.app.rounds import Rounds
from dispatch.app.sharing import Lenient
from dispatch.app.wish import WISH, Wish
from dispatch.environment import LocalId, RegistryDigest
from dispatch.errors import BaseVanishedError, ImageError
from dispatch.image.builder import Builder, FetchError, Manner, NotBegunError
from dispatch.image.maker import Tools
from dispatch.image.plan import Action, BuildPlan, Elsewhere, plan_images
from dispatch.image.report import BuildReport, report_present
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import (
    FakeHelper,
    FakeImageStore,
    FakeInstaller,
    FakeRootfs,
    FakeShared,
    base_image,
    with_tags,
)
from dispatch.testing.reporting import RecordingReporter

PACKAGES = {"numpy": {"numpy/__init__.py": "x = 1\n"}, "scipy": {"scipy/__init__.py": "y = 1\n"}}
CATALOGUE = environments(
    base=debian_image(),
    ml=pip_image("ml"),
    same=pip_image("same"),
    more=pip_image("more"),
    theirs="python:3.11",
    upon=pip_image("upon", base="theirs"),
)
LOCKS = FakeLocks(
    {
        "base": debian_lock(),
        "ml": pip_lock("numpy==2.0"),
        "same": pip_lock("numpy==2.0"),
        "more": pip_lock("numpy==2.0", "scipy==1.0"),
        "upon": pip_lock("numpy==2.0"),
    }
)


class Machine:
    """An engine, a cache and a registry that other machines may share. Satisfies ``pushing.Buildable``."""

    def __init__(self, cache: Path, registry: FakeShared | None = None) -> None:
        self.cache = cache
        self.store = FakeImageStore({"python:3.11": base_image("python:3.11")})
        self.shared = FakeShared(self.store, registry.held if registry else None)
        if registry is not None:
            self.shared.held = registry.held
        self.installer = FakeInstaller(PACKAGES)
        self.rootfs = FakeRootfs()
        self.told = RecordingReporter()
        self.looks: FakeShared | Lenient | None = self.shared

    def recipes(self, names: Iterable[str]) -> BuildPlan:
        """Plan as where no engine is asked."""
        return plan_images(names, CATALOGUE, LOCKS, FakeImageStore())

    def plan(self, names: Iterable[str], wish: Wish = WISH) -> BuildPlan:
        """Plan."""
        wanted = tuple(names)
        again = frozenset(wanted if wish.again else ())
        return plan_images(wanted, CATALOGUE, LOCKS, self.store, None, Elsewhere(None, self.looks, again))

    def build(self, plan: BuildPlan, wish: Wish = WISH) -> BuildReport:
        """Build."""
        present = report_present(plan)
        if present is not None:
            return present
        tools = Tools(self.store, FakeHelper(), self.installer, self.rootfs, "0:0", shared=self.shared)
        manner = Manner(wish.workers, wish.fail_fast)
        return Builder(tools, self.cache, manner, lambda: 0.0).build(plan, self.told)

    def made(self, *names: str, wish: Wish = WISH) -> BuildReport:
        """Plan and build."""
        return self.build(self.plan(names, wish), wish)

    def pushing(self) -> Pushing:
        """The images in the registry."""
        return Pushing(self, self.shared, self.told)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing is."""
    return Machine(tmp_path / "cache")


@pytest.fixture
def clean(machine: Machine, tmp_path: Path) -> Machine:
    """Another machine, with the same registry, which holds what the first one pushed."""
    machine.pushing().provide(["ml", "base"]).raise_failures()
    return Machine(tmp_path / "clean", machine.shared)


def test_fetched_instead_of_built(machine: Machine, clean: Machine) -> None:
    """What the registry holds is fetched whole, under its names, and nothing is installed."""
    plan = clean.plan(["ml"])
    (image,) = plan.images
    assert (image.action, image.base) == (Action.FETCH, "")
    assert (
        f"in the registry as {clean.shared.repository}:{image.tags['ml'].partition(':')[2]}" in image.reason
    )
    report = clean.build(plan)
    report.raise_failures()
    assert report.images == machine.made("ml").images
    assert report.done["ml"].action is Action.FETCH
    assert (clean.installer.installs, clean.rootfs.made, clean.store.loads) == (0, [], 0)
    record = clean.store.inspect_image(report.references["ml"])
    assert record is not None and clean.made("ml").done["ml"].action is Action.PRESENT


def test_the_engine_comes_first(machine: Machine) -> None:
    """What the engine holds is not asked for anywhere else."""
    machine.made("ml").raise_failures()
    machine.shared.asked.clear()
    assert machine.plan(["ml"]).of("ml").action is Action.PRESENT
    assert machine.shared.asked == []


def test_only_what_is_the_very_image_counts(machine: Machine, clean: Machine) -> None:
    """A tag whose image has another digest in its label, or is for another platform, is no image of ours."""
    (tag,) = [each for each in clean.shared.held if each.startswith("ml--")]
    clean.shared.held[tag] = clean.shared.held[next(each for each in clean.shared.held if each != tag)]
    plan = clean.plan(["ml"])
    assert plan.of("ml").action is Action.BUILD
    assert f"no image in the engine or in {clean.shared.repository}" in plan.of("ml").reason
    # Its base is fetched all the same.
    assert [image.action for image in plan.images] == [Action.FETCH, Action.BUILD]
    report = clean.build(plan)
    assert report.images == machine.made("ml").images


def test_a_registry_that_lies(clean: Machine) -> None:
    """What comes is looked at again: another image than was announced gets no name of ours."""
    plan = clean.plan(["ml"])
    clean.shared.gives = base_image("evil")
    report = clean.build(plan)
    assert isinstance(report.failures["ml"], FetchError)
    assert not [tag for image in clean.store.images.values() for tag in image.tags if "ml--" in tag]


def test_a_registry_that_is_down_costs_a_line(machine: Machine, clean: Machine) -> None:
    """It is given up when it first fails, said once, and what is missing is built."""
    clean.shared.failure = ImageError("registry.test: no answer")
    clean.looks = Lenient(lambda: clean.shared, clean.told)
    report = clean.made("ml", "more")
    report.raise_failures()
    assert report.images["ml"] == machine.made("ml").images["ml"]
    assert len(clean.shared.asked) == 1
    assert [line for line in clean.told.lines if "no answer" in line] == [
        f"registry {clean.shared.repository}: registry.test: no answer: what is missing is built here"
    ]


def test_a_fetch_that_fails_can_be_told(clean: Machine) -> None:
    """A failed fetch is an error of its own, so that who asked can build instead."""
    clean.shared.fetches = ImageError("registry.test: broke off")
    report = clean.made("ml")
    assert isinstance(report.failures["ml"], FetchError)


def test_what_cannot_be_fetched_is_built(machine: Machine, clean: Machine) -> None:
    """A registry that breaks off is given up; a second round builds what it was to give."""
    clean.shared.fetches = ImageError("registry.test: broke off")
    clean.looks = registry = Lenient(lambda: clean.shared, clean.told)
    rounds = Rounds(clean.build, lambda: clean.plan(["ml"]), registry, clean.told)
    report = rounds.carry_out(clean.plan(["ml"]))
    report.raise_failures()
    assert report.images == machine.made("ml").images
    assert report.done["ml"].action is Action.BUILD


class PruningStore(FakeImageStore):
    """Forgets all images, ``times`` times, when something is loaded that stands on one of them."""

    times = 0

    def load(self, chunks: Iterable[bytes]) -> None:
        """Prune, then load."""
        pieces = list(chunks)
        if self.images and self.times:
            self.times -= 1
            self.images.clear()
        super().load(pieces)


@pytest.mark.parametrize(("times", "well"), [(1, True), (2, False)])
def test_a_base_that_is_removed_meanwhile(machine: Machine, times: int, well: bool) -> None:
    """What stood on it is built once more, with the base; if that happens again, it is said."""
    machine.store = store = PruningStore()
    machine.looks = None
    store.times = times
    rounds = Rounds(machine.build, lambda: machine.plan(["ml"]), None, machine.told)
    report = rounds.carry_out(machine.plan(["ml"]))
    assert (report.failures == {}) is well
    assert all(isinstance(each, BaseVanishedError) for each in report.failures.values())
    assert any("building once more" in line for line in machine.told.lines)


def test_made_again(machine: Machine) -> None:
    """What is to be made again is, with its layers, although engine, registry and cache have it."""
    first = machine.pushing().provide(["ml"])
    report = machine.made("ml", wish=Wish(again=True))
    report.raise_failures()
    assert report.done["ml"].action is Action.BUILD
    assert report.images == machine.made("ml").images
    assert (machine.installer.installs, len(machine.rootfs.made)) == (2, 1)
    assert first.failures == {}


def test_fail_fast(machine: Machine) -> None:
    """After a failure nothing else is begun; without, all others are."""
    machine.installer.failure = ImageError("no room")
    report = machine.made("more", "theirs", wish=Wish(workers=1, fail_fast=True))
    assert {name: type(error) for name, error in report.failures.items()} == {
        "more": ImageError,
        "theirs": NotBegunError,
    }
    assert set(machine.made("more", "theirs", wish=Wish(workers=1)).images) == {"theirs"}


def test_push(machine: Machine) -> None:
    """What the registry lacks is built and pushed, each name a tag; what it holds needs no engine."""
    report = machine.pushing().provide(["ml", "same", "theirs"])
    report.raise_failures()
    assert report.references["ml"].startswith(f"{machine.shared.repository}:ml--")
    assert report.images["ml"] == report.images["same"]
    assert isinstance(report.images["ml"], RegistryDigest)
    assert report.references["theirs"] == "python:3.11"
    assert sorted(tag.partition("--")[0] for tag in machine.shared.pushed) == ["ml", "same"]
    machine.store.images.clear()
    machine.shared.pushed.clear()
    assert machine.pushing().provide(["ml", "same", "theirs"]).references == report.references
    assert (machine.shared.pushed, machine.store.images) == ([], {})


def test_push_upon_an_image_that_is_pulled_first(machine: Machine) -> None:
    """An image whose digest only its base can tell is built, and then pushed only if it is not there."""
    for _ in range(2):
        machine.pushing().provide(["upon"]).raise_failures()
    assert len(machine.shared.pushed) == 1


def test_a_push_that_failed_is_made_up_for(machine: Machine) -> None:
    """An image that was built, and could not be pushed, is pushed by the next run and not built again."""
    machine.shared.failure = ImageError("registry.test: no room")
    with pytest.raises(ImageError, match="no room"):
        machine.pushing().provide(["ml"])
    machine.shared.failure = None
    machine.made("ml").raise_failures()
    assert machine.shared.pushed == []
    machine.pushing().provide(["ml"]).raise_failures()
    assert [tag.partition("--")[0] for tag in machine.shared.pushed] == ["ml"]
    assert machine.installer.installs == 1


def test_outlook(machine: Machine) -> None:
    """What a push would do is said without doing it."""
    first = machine.pushing().outlook(["ml", "upon", "theirs"])
    assert [each.line.partition("--")[0] for each in first] == [
        f"ml: push as {machine.shared.repository}:ml",
        "upon: push",
        "theirs: in the registry: python:3.11",
    ]
    machine.pushing().provide(["ml"]).raise_failures()
    (ml,) = machine.pushing().outlook(["ml"])
    assert ml.there and ml.to_json()["action"] == "present"
    assert machine.made("ml").images["ml"] == LocalId(
        with_tags(machine.shared.held[ml.reference.rpartition(":")[2]], ()).id
    )
