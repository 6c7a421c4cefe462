"""Images of Beaker in the engine: found by name, pulled with Beaker's credentials, pinned by id."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDeniedError, BeakerDoor, BeakerUnreachableError
from dispatch._docker import Credentials, Door, ImageRecord
from dispatch.beakerd.config import Config, UserConfig
from dispatch.environment import BeakerId, LocalId
from dispatch.errors import ImageError
from dispatch.image.beaker import Publisher
from dispatch.image.importing import Importer
from dispatch.image.plan import beaker_reference
from dispatch.reporting import Reporter
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.busybox import REFERENCE, busybox_archive
from dispatch.testing.project import Done, Project
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

CONFIG = Config(users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",))), control=True)
APPLETS = ("sh", "cat", "mkdir", "ls", "env", "true", "rm", "mv", "sleep", "kill", "cp", "ln", "id", "date")


class Engine:
    """The real engine, watched. The first ``broken`` pulls come to nothing."""

    def __init__(self, door: Door, broken: int = 0):
        self._door = door
        self._broken = broken
        self.pulls: list[tuple[str, Credentials | None]] = []
        self.inspect_image, self.tag, self.remove_image = door.inspect_image, door.tag, door.remove_image
        self.push = door.push

    def pull(self, reference: str, report: Reporter, credentials: Credentials | None = None) -> ImageRecord:
        """Pull."""
        self.pulls.append((reference, credentials))
        if len(self.pulls) <= self._broken:
            raise ImageError("the line was cut")
        return self._door.pull(reference, report, credentials)


@pytest.fixture
def loaded(door: Door) -> Iterator[Callable[[], str]]:
    """Loads busyboxes of their own, and returns their image IDs; all are gone at the end."""
    made: list[str] = []

    def load() -> str:
        mark = os.urandom(6).hex()
        reference = f"dispatch-test-pulled:{mark}"
        content = Path("/bin/busybox").read_bytes()
        door.load([busybox_archive(content, APPLETS, more={"/etc/mark": mark.encode()}, reference=reference)])
        record = door.inspect_image(reference)
        assert record is not None
        made.append(record.id)
        return record.id

    yield load
    for image in made:
        forget(door, image)


def forget(door: Door, image: str) -> None:
    """Remove an image with all of its names."""
    while (record := door.inspect_image(image)) is not None:
        door.remove_image((*record.tags, *record.digests, image)[0])


@pytest.fixture
def doors() -> Iterator[Callable[..., BeakerDoor]]:
    """Doors to a local Beaker, closed at the end."""
    made: list[BeakerDoor] = []

    def make(beaker: LocalBeaker, user: str = "me") -> BeakerDoor:
        made.append(door_of(beaker, user))
        return made[-1]

    yield make
    for each in made:
        each.close()


def published(own: BeakerDoor, door: Door, image: str, tmp_path: Path) -> BeakerId:
    """Publish an image of the engine's."""
    publisher = Publisher(own, door, tmp_path / "locks")
    digest = image.rpartition(":")[2]
    return publisher.publish("tools", digest, "b" * 64, LocalId(image), RecordingReporter())


def test_an_image_is_pulled_once_and_pinned_by_its_id(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    loaded: Callable[[], str],
    door: Door,
    tmp_path: Path,
) -> None:
    """With credentials of the pull's own, by a teammate, too; the engine knows it by its id on Beaker alone,
    and does not fetch it again."""
    beaker, image = beaker_of(CONFIG), loaded()
    made = published(doors(beaker), door, image, tmp_path)
    forget(door, image)
    engine, report = Engine(door), RecordingReporter()
    importer = Importer(doors(beaker, "you"), engine)
    name = doors(beaker).images.get(made.id).name
    assert importer.identify(f"me/{name}") == made
    record = importer.provide(made, report)
    assert record.id == image
    again = door.inspect_image(image)
    assert again is not None and again.tags == (f"dispatch-beaker:{made.id}",)
    assert importer.provide(made, report).id == image
    ((_, login),) = engine.pulls
    assert login is not None and login.password not in "\n".join([*report.lines, repr(login)])
    assert [(task.name, task.state) for task in report.tasks] == [(f"{name}: pulling", "done")]
    assert report.tasks[0].bytes > 0
    assert report.lines[0] == f"{name}: pulling from Beaker"


def test_what_the_engine_has_is_not_fetched(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    loaded: Callable[[], str],
    door: Door,
    tmp_path: Path,
) -> None:
    """Who published an image has it; it gets the name that holds the id beside its own."""
    beaker, image = beaker_of(CONFIG), loaded()
    own, engine = doors(beaker), Engine(door)
    made = published(own, door, image, tmp_path)
    assert Importer(own, engine).provide(made, RecordingReporter()).id == image
    assert engine.pulls == []
    record = door.inspect_image(beaker_reference(made))
    assert record is not None and len(record.tags) == 2


def test_what_names_mean(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    loaded: Callable[[], str],
    door: Door,
    tmp_path: Path,
) -> None:
    """An id, ``author/name``, or the name of one's own; a name that moved is another image, and what was
    pinned stays what it was."""
    beaker, image = beaker_of(CONFIG), loaded()
    own = doors(beaker)
    made = published(own, door, image, tmp_path)
    name = own.images.get(made.id).name
    mine, yours = Importer(own, Engine(door)), Importer(doors(beaker, "you"), Engine(door))
    assert {mine.identify(each) for each in (made.id, name, f"me/{name}")} == {made}
    assert {yours.identify(each) for each in (made.id, f"me/{name}")} == {made}
    uncommitted = own.images.create("begun", image, "", "")
    for importer, wrong, says in (
        (yours, name, "has none of this name"),
        (mine, "me/nothing", "has none of this name"),
        (mine, "nobody/nothing", "has none of this name"),
        (mine, "me/begun", "not committed"),
        (mine, "begun", "not committed"),
    ):
        with pytest.raises(ImageError, match=says) as caught:
            importer.identify(wrong)
        assert wrong in caught.value.message and caught.value.remedy
    for wrong, says in ((uncommitted, "not committed"), ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "has none")):
        told = RecordingReporter()
        with pytest.raises(ImageError, match=says):
            mine.provide(BeakerId(wrong), told)
        assert told.lines == []
    with beaker.client() as client:
        client.image.update(client.image.get(made.id), name="old")
    other = loaded()
    moved = published(own, door, other, tmp_path)
    with beaker.client() as client:
        client.image.update(client.image.get(moved.id), name=name)
    assert mine.identify(f"me/{name}") == moved != made
    assert mine.provide(made, RecordingReporter()).id == image
    assert mine.provide(moved, RecordingReporter()).id == other


def test_pulls_that_break_off(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    loaded: Callable[[], str],
    door: Door,
    tmp_path: Path,
) -> None:
    """They are begun again with new credentials, and not for ever; a revoked token ends them at once."""
    beaker, image = beaker_of(CONFIG), loaded()
    made = published(doors(beaker), door, image, tmp_path)
    forget(door, image)
    hopeless = Engine(door, broken=99)
    with pytest.raises(ImageError, match="the line was cut"):
        Importer(doors(beaker), hopeless, sleep=lambda _: None).provide(made, RecordingReporter())
    assert len({login.password for _, login in hopeless.pulls if login is not None}) == 5
    forget(door, image)
    faults = Faults(beaker)
    for on, kind in (
        ("rpc:GetImage", "unavailable"),
        ("rest:GET /api/v3/images/*/repository*", "500"),
        ("rest:GET /v2/*/blobs/*", "drop"),
        ("rest:GET /v2/*/blobs/*", "truncate"),
    ):
        rule = faults.add(on, kind, times=1)
        engine = Engine(door)
        assert Importer(doors(beaker), engine).provide(made, RecordingReporter()).id == image, (on, kind)
        assert faults.hits(rule) == 1, (on, kind)
        faults.remove(rule)
        forget(door, image)
    faults.revoke("you")
    with pytest.raises(BeakerDeniedError):
        Importer(doors(beaker, "you"), Engine(door)).provide(made, RecordingReporter())


def test_images_that_were_never_pushed(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    busybox_image: ImageRecord,
    door: Door,
) -> None:
    """One that Beaker knows by a Docker reference only is that one."""
    beaker = beaker_of(Config(images={"ai2/tools": REFERENCE}))
    engine, own = Engine(door), doors(beaker)
    importer = Importer(own, engine)
    made = importer.identify("ai2/tools")
    assert importer.provide(made, RecordingReporter()).id == busybox_image.id
    assert engine.pulls == []
    door.remove_image(beaker_reference(made))
    assert door.inspect_image(REFERENCE) is not None


def test_no_patience_with_a_beaker_that_is_not_there(
    beaker_of: Callable[[Config], LocalBeaker], doors: Callable[..., BeakerDoor], door: Door
) -> None:
    """Before the first answer nobody is waited for; the error names the address, and what to look at."""
    beaker = beaker_of(CONFIG)
    own = doors(beaker)
    beaker.stop()
    before = time.monotonic()
    with pytest.raises(BeakerUnreachableError) as caught:
        Importer(own, door).identify("me/tools")
    assert time.monotonic() - before < 20
    assert beaker.endpoint.rpc in caught.value.message and caught.value.remedy


def environ_of(beaker: LocalBeaker, user: str = "me") -> dict[str, str]:
    """What a user's shell has after ``dispatch beaker env``, as far as it counts."""
    return {
        "BEAKER_CONFIG": str(beaker.layout.users / user / "config.yml"),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
    }


def states(done: Done) -> dict[str, str]:
    """How each step of a run stands at its end."""
    return {each["name"]: each["verdict"] for each in done.json()["steps"]}


def test_a_run_in_an_image_of_beaker(
    beaker_of: Callable[[Config], LocalBeaker],
    doors: Callable[..., BeakerDoor],
    loaded: Callable[[], str],
    door: Door,
    tmp_path: Path,
) -> None:
    """Under Docker: planned as a pull, pulled, run, cached; and run again by id without Beaker."""
    beaker, image = beaker_of(CONFIG), loaded()
    own = doors(beaker)
    made = published(own, door, image, tmp_path)
    name = own.images.get(made.id).name
    forget(door, image)
    (tmp_path / "project").mkdir()
    text = (
        f"images: {{named: {{beaker: me/{name}}}, pinned: {{beaker: {made.id}}}}}\n"
        "steps:\n"
        "  one: {type: shell, step_image: named, step_network: none,"
        " command: 'cat /etc/mark > \"$DISPATCH_OUTPUT_DIR/mark\"'}\n"
    )
    project = Project(tmp_path / "project", environ_of(beaker, "you")).write({"e.yml": text}).commit()
    planned = project.dispatch("build", "--dry-run", "--json", "e.yml").well().json()["images"]
    assert [(each["action"], each["references"]) for each in planned] == [("pull", [beaker_reference(made)])]
    assert door.inspect_image(image) is None
    done = project.dispatch("run", "--json", "-n", "first", "e.yml").well()
    assert states(done) == {"one": "completed"}
    assert door.inspect_image(beaker_reference(made)) is not None
    assert project.dispatch("result", "first", "one").well()
    again = project.dispatch("run", "--json", "-n", "again", "e.yml").well()
    assert states(again) == {"one": "cached"}
    beaker.stop()
    by_id = project.write({"e.yml": text.replace("step_image: named", "step_image: pinned")}).commit()
    done = by_id.dispatch("run", "--json", "e.yml").well()
    assert states(done) == {"one": "completed"}
