"""The plan of a build: what is there, what is made, what is pulled, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import BeakerId, BeakerImage, CondaImage, DockerfileImage, Extras, LocalId
from dispatch.errors import ConfigurationError, DispatchError, LockError
from dispatch.image.history import SpecHistory
from dispatch.image.plan import Action, BuildPlan, Elsewhere, Generated, Pinned, plan_images
from dispatch.lock.model import CondaLock
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import FakeImageStore, base_image

CATALOGUE = environments(
    base=debian_image(),
    ml=pip_image("ml"),
    same=pip_image("same"),
    plain=pip_image("plain", bytecode=False),
    theirs="python:3.11",
    upon=pip_image("upon", base="theirs"),
    direct=pip_image("direct", base="python:3.11"),
    bio=CondaImage(Path("/repo/environment.yml"), Path("/repo/environment.linux-64.lock"), "base"),
)
LOCKS = FakeLocks({"base": debian_lock(), **dict.fromkeys(("ml", "same", "plain"), pip_lock("numpy==2.0"))})
LOCKS_UPON = FakeLocks({"upon": pip_lock("numpy==2.0"), "direct": pip_lock("numpy==2.0")})


def conda_lock(platform: str = "linux-64", glibc: str = "2.36") -> CondaLock:
    """Return a conda lock without packages."""
    return CondaLock(platform, (("__glibc", glibc),), "0" * 64, ())


def actions(plan: BuildPlan) -> list[tuple[str, str]]:
    """Names and action of every image of a plan, in its order."""
    return [("+".join(sorted(image.tags)), image.action.value) for image in plan.images]


def test_all_missing() -> None:
    """A base comes before what stands on it, and is planned without being built."""
    plan = plan_images(["ml"], CATALOGUE, LOCKS, FakeImageStore())
    assert actions(plan) == [("base", "build"), ("ml", "build")]
    assert plan.of("ml").base == plan.images[0].key
    assert "no image in the engine" in plan.of("ml").reason
    assert plan.of("ml").digest is not None


def test_equal_specifications_are_one_image() -> None:
    """Two names with equal specifications are one image with two tags; names do not enter the digest."""
    plan = plan_images(["ml", "same", "ml"], CATALOGUE, LOCKS, FakeImageStore())
    assert actions(plan) == [("base", "build"), ("ml+same", "build")]
    tags = plan.of("ml").tags
    assert tags["ml"].startswith("dispatch:ml--") and tags["same"].startswith("dispatch:same--")
    assert plan.of("ml") is plan.of("same")


def test_bytecode_makes_another_image() -> None:
    """An environment without bytecode has one layer less and another digest."""
    plan = plan_images(["ml", "plain"], CATALOGUE, LOCKS, FakeImageStore())
    sources = [plan.of(name).source for name in ("ml", "plain")]
    kinds = [[layer.kind for layer in s.spec.layers] for s in sources if isinstance(s, Generated)]
    assert kinds == [["pip", "bytecode"], ["pip"]]


def test_a_docker_base_that_is_there() -> None:
    """A base in the engine enters by its ID, under whichever name it is called."""
    store = FakeImageStore()
    store.add(base_image("python:3.11"))
    plan = plan_images(["upon", "direct"], CATALOGUE, LOCKS_UPON, store)
    assert actions(plan) == [("python:3.11+theirs", "present"), ("direct+upon", "build")]
    other = FakeImageStore()
    other.add(replace(base_image("python:3.11"), id="sha256:" + "0" * 64))
    assert plan_images(["upon"], CATALOGUE, LOCKS_UPON, other).of("upon").digest != plan.of("upon").digest


def test_a_docker_base_that_is_absent() -> None:
    """A base that must be pulled leaves the digest open, and the plan says so."""
    plan = plan_images(["upon"], CATALOGUE, LOCKS_UPON, FakeImageStore())
    assert actions(plan) == [("theirs", "pull"), ("upon", "build")]
    assert plan.of("upon").digest is None
    assert plan.of("upon").reason == "digest unknown until python:3.11 is pulled"


def test_docker_images() -> None:
    """An image of somebody else is present or pulled."""
    store = FakeImageStore()
    assert plan_images(["theirs"], CATALOGUE, LOCKS, store).of("theirs").action is Action.PULL
    record = store.add(base_image("python:3.11"))
    plan = plan_images(["theirs"], CATALOGUE, LOCKS, store)
    assert (plan.of("theirs").image, plan.to_do) == (LocalId(record.id), ())


def test_images_of_beaker() -> None:
    """One is present or fetched under the id that its name has now; names of one image fall together."""
    ids = {"me/tools": BeakerId("01A"), "01A": BeakerId("01A"), "me/other": BeakerId("01B")}
    catalogue = environments(
        tools=BeakerImage("me/tools"), pinned=BeakerImage("01A"), other=BeakerImage("me/other")
    )
    store = FakeImageStore()
    record = store.add(replace(base_image("any"), tags=("dispatch-beaker:01B",)))
    plan = plan_images(
        ["tools", "pinned", "other"], catalogue, LOCKS, store, None, Elsewhere(ids.__getitem__)
    )
    assert actions(plan) == [("pinned+tools", "pull"), ("other", "present")]
    assert plan.of("tools").tags == dict.fromkeys(("tools", "pinned"), "dispatch-beaker:01A")
    assert plan.of("other").image == LocalId(record.id) and plan.of("other").digest is None
    assert plan.of("tools").source == Pinned(BeakerId("01A"))


@pytest.mark.parametrize(
    ("name", "locks", "error", "message"),
    [
        ("mll", LOCKS, ConfigurationError, "did you mean 'ml'"),
        ("ml", FakeLocks(), LockError, "no lock"),
        ("ml", FakeLocks({"ml": pip_lock()}), LockError, "'base': no lock"),
        ("ml", FakeLocks({"base": debian_lock(), "ml": pip_lock(python="3.12")}), LockError, "has 3.11"),
        ("ml", FakeLocks({"base": debian_lock(), "ml": pip_lock(glibc="2.41")}), LockError, "has 2.36"),
        ("bio", FakeLocks({"base": debian_lock(), "bio": conda_lock(glibc="2.41")}), LockError, "has 2.36"),
        (
            "bio",
            FakeLocks({"base": debian_lock(), "bio": conda_lock("linux-aarch64")}),
            LockError,
            "locked for linux-aarch64, its base 'base' is linux-64",
        ),
    ],
)
def test_refused(name: str, locks: FakeLocks, error: type[DispatchError], message: str) -> None:
    """What cannot be built is refused while planning, with a remedy."""
    with pytest.raises(error, match=message) as caught:
        plan_images([name], CATALOGUE, locks, FakeImageStore())
    assert caught.value.remedy


def test_explain(tmp_path: Path) -> None:
    """The explanation names the inputs that changed since the last build of the same name, and only those."""
    history = SpecHistory(tmp_path)
    plan = plan_images(["ml"], CATALOGUE, LOCKS, FakeImageStore(), history)
    assert len(plan.explain("ml")) == 1
    source = plan.of("ml").source
    assert isinstance(source, Generated)
    history.record(source.environment, source.spec)
    changed = FakeLocks({**LOCKS.locks, "ml": pip_lock("numpy==2.1")})
    lines = plan_images(["ml"], CATALOGUE, changed, FakeImageStore(), history).explain("ml")
    assert lines[0] == "ml: build: its inputs changed"
    assert any(line.startswith("  lock: ") and "→" in line for line in lines)
    assert not any(line.startswith(("  base", "  env", "  platform")) for line in lines)


def test_json() -> None:
    """A plan can be written for machines."""
    plan = plan_images(["ml"], CATALOGUE, LOCKS, FakeImageStore())
    (_, image) = plan.to_json()
    assert (image["names"], image["action"], image["image"]) == (["ml"], "build", None)
    assert image["references"] == [plan.of("ml").tags["ml"]]


def test_the_parts_of_an_image_are_explained(tmp_path: Path) -> None:
    """What an image is made of in several steps is explained with it, each part for itself."""
    catalogue = {**CATALOGUE, **environments(**{"gpu+packages": pip_image("gpu"), "gpu": pip_image("gpu")})}
    steps = DockerfileImage(None, None, "gpu+packages", more=Extras(run=("true",)))
    catalogue["gpu"] = replace(catalogue["gpu"], declaration=steps)
    locks = FakeLocks({**LOCKS.locks, "gpu+packages": pip_lock("numpy==2.0")})
    history = SpecHistory(tmp_path)
    plan = plan_images(["gpu"], catalogue, locks, FakeImageStore(), history)
    for image in plan.images:
        assert isinstance(image.source, Generated)
        history.record(image.source.environment, image.source.spec)
    changed = FakeLocks({**locks.locks, "gpu+packages": pip_lock("numpy==2.1")})
    lines = plan_images(["gpu"], catalogue, changed, FakeImageStore(), history).explain("gpu")
    assert [line.partition(": its")[0] for line in lines if "inputs changed" in line] == [
        "gpu: build",
        "  gpu+packages: build",
    ]
    assert any(line.startswith(("    pip.inputs.lock: ", "    lock: ")) for line in lines)
