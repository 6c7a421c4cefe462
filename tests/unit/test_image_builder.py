"""Carrying out a plan: each image once, the others go on, and nothing half-made stays."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch._docker.helper import Finished, OneShot
from dispatch._docker.images import Right, any_image
from dispatch.environment import LocalId
from dispatch.errors import BaseVanishedError, EngineError, ImageError, LockError, StaleBaseError
from dispatch.image.builder import Builder
from dispatch.image.maker import Tools
from dispatch.image.plan import plan_images
from dispatch.image.report import BuildReport
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import (
    FakeHelper,
    FakeImageStore,
    FakeInstaller,
    FakeRootfs,
    base_image,
    with_tags,
)
from dispatch.testing.reporting import RecordingReporter

PACKAGES = {
    "numpy": {"numpy/__init__.py": "x = 1\n"},
    "scipy": {"scipy/__init__.py": "y = 1\n"},
}
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


class Yard:
    """A builder with everything it works with, fake but for the cache on disk."""

    def __init__(self, cache: Path, store: FakeImageStore | None = None) -> None:
        self.cache = cache
        self.store = store or FakeImageStore()
        self.helper = FakeHelper()
        self.installer = FakeInstaller(PACKAGES)
        self.rootfs = FakeRootfs()
        self.told = RecordingReporter()

    def builder(self) -> Builder:
        """A new builder, as another process would have it."""
        tools = Tools(self.store, self.helper, self.installer, self.rootfs, "0:0")
        return Builder(tools, self.cache, clock=lambda: 0.0)

    def build(self, *names: str, locks: FakeLocks = LOCKS) -> BuildReport:
        """Plan and build."""
        return self.builder().build(plan_images(names, CATALOGUE, locks, self.store), self.told)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A builder with an empty cache and an empty engine."""
    return Yard(tmp_path / "cache")


def left(cache: Path) -> list[str]:
    """What a build should have removed from the cache."""
    staged = [path.name for path in (cache / "staging").iterdir()]
    return staged + [path.name for path in cache.rglob("*.partial")]


def test_from_nothing(yard: Yard) -> None:
    """A base and an environment are made, tagged and reported; building again does nothing."""
    report = yard.build("ml")
    report.raise_failures()
    record = yard.store.inspect_image(report.references["ml"])
    assert record is not None and report.images == {"ml": LocalId(record.id)}
    assert len(record.diff_ids) == 3
    assert yard.store.loads == 2
    assert left(yard.cache) == []
    assert yard.build("ml").images == report.images
    assert (yard.store.loads, yard.installer.installs) == (2, 1)


def test_one_image_for_two_names(yard: Yard) -> None:
    """Equal specifications are built once and tagged for each of their names."""
    report = yard.build("ml", "same")
    assert report.images["ml"] == report.images["same"]
    record = yard.store.inspect_image(report.references["same"])
    assert record is not None and set(record.tags) == set(report.references.values())
    assert yard.installer.installs == 1


def test_a_new_name_for_a_present_image(yard: Yard) -> None:
    """An image that is there under another name is only tagged."""
    first = yard.build("ml")
    second = yard.build("same")
    assert first.images["ml"] == second.images["same"]
    assert yard.store.inspect_image(second.references["same"]) is not None
    assert yard.store.loads == 2


class SearchedStore(FakeImageStore):
    """Counts the searches by label, which take an engine the longer the more images it holds."""

    searches = 0

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """Count, and search."""
        self.searches += 1
        return super().find_image(label, value, right)


def test_what_is_there_is_found_by_name(tmp_path: Path) -> None:
    """Images that have their names are found without any search; one that lost its own is searched for."""
    store = SearchedStore()
    yard = Yard(tmp_path, store)
    yard.build("ml")
    store.searches = 0
    assert [image.action.value for image in plan_images(["ml"], CATALOGUE, LOCKS, store).images] == [
        "present"
    ]
    assert store.searches == 0
    for record in list(store.images.values()):
        store.images[record.id] = with_tags(record, ())
    assert [image.action.value for image in plan_images(["ml"], CATALOGUE, LOCKS, store).images] == [
        "present"
    ]
    assert store.searches > 0


def test_the_same_bytes_from_another_cache(tmp_path: Path) -> None:
    """Two builds that share nothing give the same image ID."""
    one, two = Yard(tmp_path / "one"), Yard(tmp_path / "elsewhere" / "two")
    assert one.build("more").images == two.build("more").images


def test_layers_are_kept(yard: Yard) -> None:
    """With an empty engine and a full cache nothing is installed, compiled or assembled again."""
    first = yard.build("ml")
    again = Yard(yard.cache)
    assert again.build("ml").images == first.images
    assert (again.installer.installs, again.helper.compiled, again.rootfs.made) == (0, [], [])


def test_packages_are_compiled_once(yard: Yard) -> None:
    """Another environment with a package that was compiled before compiles only the others."""
    yard.build("ml")
    yard.build("more")
    assert len(yard.helper.compiled) == 2


def test_damaged_layer(yard: Yard) -> None:
    """A damaged layer of the cache is made again, and the image is as before."""
    first = yard.build("ml")
    for tar in (yard.cache / "layers").glob("*.tar"):
        content = bytearray(tar.read_bytes())
        content[-1] ^= 1
        tar.write_bytes(content)
    again = Yard(yard.cache)
    assert again.build("ml").images == first.images
    assert any("damaged" in line for line in again.told.lines)


def test_pulled_base(tmp_path: Path) -> None:
    """A base that was not there is pulled, asked about its Python, and built upon."""
    yard = Yard(tmp_path, FakeImageStore({"python:3.11": base_image("python:3.11")}))
    report = yard.build("upon")
    report.raise_failures()
    assert report.references["upon"].startswith("dispatch:upon--")
    assert yard.helper.probes == 1
    assert yard.build("upon").images == report.images
    assert yard.store.loads == 1


def test_a_base_that_does_not_fit(tmp_path: Path) -> None:
    """What a pulled base turns out to be is compared with the lock before anything is made."""
    yard = Yard(tmp_path, FakeImageStore({"python:3.11": base_image("python:3.11")}))
    yard.helper.answer = ("3.12", "/usr/bin/python3.12", "glibc 2.36")
    with pytest.raises(LockError, match=r"locked for Python 3\.11.*has 3\.12"):
        yard.build("upon").raise_failures()
    assert yard.installer.installs == 0


def test_one_failure_does_not_stop_the_rest(yard: Yard) -> None:
    """A failure is reported for its image, the others are built; several are told together."""
    report = yard.build("ml", "theirs")
    assert set(report.images) == {"ml"}
    assert "no registry gave it" in report.failures["theirs"].message
    yard.installer.failure = LockError("numpy: hash", remedy="renew")
    both = yard.build("theirs", "more")
    assert set(both.failures) == {"theirs", "more"}
    with pytest.raises(ImageError, match="2 images failed"):
        both.raise_failures()


def test_a_failing_base(yard: Yard) -> None:
    """Without its base an image fails with the base's own error, which is told once for all of them."""
    yard.rootfs.failure = StaleBaseError("libc6 vanished", remedy="dispatch lock base")
    report = yard.build("ml", "more")
    assert set(report.failures) == {"ml", "more"}
    with pytest.raises(StaleBaseError, match=r"^libc6 vanished$"):
        report.raise_failures()
    assert yard.installer.installs == 0


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("the image: write /x: no space left on device", "'ml': the engine has no room left"),
        ("the image: cannot be loaded", "cannot be loaded"),
    ],
)
def test_a_load_that_fails(yard: Yard, refusal: str, message: str) -> None:
    """A refused load leaves no tag and no staging; the next build is right."""
    yard.build("base")
    yard.store.refusal = refusal
    with pytest.raises(ImageError, match=message):
        yard.build("ml").raise_failures()
    assert left(yard.cache) == []
    assert not [tag for image in yard.store.images.values() for tag in image.tags if ":ml" in tag]
    yard.store.refusal = None
    yard.build("ml").raise_failures()


class PruningStore(FakeImageStore):
    """Forgets all images when something is loaded that stands on one of them."""

    pruning = False

    def load(self, chunks: Iterable[bytes]) -> None:
        """Prune, then load."""
        pieces = list(chunks)
        if self.pruning:
            self.images.clear()
        super().load(pieces)


def test_a_base_that_is_pruned_meanwhile(tmp_path: Path) -> None:
    """A base that vanishes while its image is made is named as the reason."""
    store = PruningStore()
    yard = Yard(tmp_path, store)
    yard.build("base")
    store.pruning = True
    with pytest.raises(BaseVanishedError, match=r"'ml': its base .* was removed") as caught:
        yard.build("ml").raise_failures()
    assert caught.value.remedy == "repeat the command"


class MaskingStore(FakeImageStore):
    """Takes what stops the archive for a broken connection, as HTTP clients do.

    ``doomed`` is a directory whose files are removed when the archive begins.
    """

    doomed: Path | None = None

    def load(self, chunks: Iterable[bytes]) -> None:
        """Load, hiding errors of the system."""
        for path in self.doomed.rglob("*.py") if self.doomed else ():
            path.unlink()
        try:
            super().load(chunks)
        except OSError as error:
            raise EngineError("the engine broke off") from error


def test_our_own_failure_is_told(tmp_path: Path) -> None:
    """What breaks on our side while an image is sent is not taken for a fault of the engine."""
    store = MaskingStore()
    yard = Yard(tmp_path, store)
    yard.build("base")
    store.doomed = yard.cache / "staging"
    with pytest.raises(ImageError, match=r"\.py: No such file"):
        yard.build("ml").raise_failures()
    assert left(yard.cache) == []


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device", "/cache/x"),
        ImageError("installing: uv failed: failed to copy: No space left on device (os error 28)"),
    ],
    ids=["ours", "the installer's"],
)
def test_full_disk(yard: Yard, failure: Exception) -> None:
    """A full disk is one error that says which disk and what to remove."""
    yard.installer.failure = failure
    with pytest.raises(ImageError, match="no room is left on the disk") as caught:
        yard.build("ml").raise_failures()
    assert str(yard.cache) in caught.value.remedy
    assert left(yard.cache) == []


def test_left_by_killed_processes(yard: Yard) -> None:
    """Staging directories whose maker is dead are removed by the next build."""
    staging = yard.cache / "staging"
    (staging / "dead" / "prefix").mkdir(parents=True)
    (staging / "dead.lock").touch()
    yard.build("ml").raise_failures()
    assert left(yard.cache) == []


def test_two_processes_build_once(yard: Yard) -> None:
    """Two builders that want the same image make it once; the second finds it."""
    plan = plan_images(["ml"], CATALOGUE, LOCKS, yard.store)
    reports: list[BuildReport] = []
    builders = [yard.builder(), yard.builder()]
    threads = [
        threading.Thread(target=lambda each=each: reports.append(each.build(plan, yard.told)))
        for each in builders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(reports) == 2 and reports[0].images == reports[1].images
    assert (yard.store.loads, yard.installer.installs) == (2, 1)


class Interrupting(FakeHelper):
    """Interrupts the build from within."""

    def run_once(self, shot: OneShot) -> Finished:  # noqa: ARG002
        """Fail in a way that is nobody's error."""
        raise KeyboardInterrupt


def test_interrupt(yard: Yard) -> None:
    """An interrupt goes through, and leaves nothing that the next build trips over."""
    yard.helper = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        yard.build("ml")
    assert left(yard.cache) == []
    yard.helper = FakeHelper()
    yard.build("ml").raise_failures()


def test_an_image_that_only_inherited_the_label(yard: Yard) -> None:
    """An image made on top of ours, by hand, is not taken for ours."""
    report = yard.build("ml")
    record = yard.store.inspect_image(report.references["ml"])
    assert record is not None
    del yard.store.images[record.id]
    yard.store.add(replace(record, id="sha256:" + "0" * 64, tags=()))
    assert yard.build("ml").images == report.images


def test_bytes_are_told(yard: Yard) -> None:
    """Each image's way into the engine is a task of all its bytes; one that fails is broken off."""
    assert not yard.build("ml").failures
    loads = [task for task in yard.told.tasks if task.name.endswith("loading")]
    assert [(task.name, task.state) for task in loads] == [
        ("base: loading", "done"),
        ("ml: loading", "done"),
    ]
    assert all(task.total is not None and task.bytes >= task.total > 0 for task in loads)
    other = Yard(yard.cache.parent / "other")
    other.store.refusal = "no space left on device"
    assert other.build("ml").failures
    assert {task.state for task in other.told.tasks if task.name.endswith("loading")} == {"broken"}
