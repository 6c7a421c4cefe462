"""Generated images on their way to Beaker: by the real engine, to a local Beaker's registry."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDeniedError, BeakerDoor, BeakerUnreachableError
from dispatch._docker import Credentials, Door
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.environment import BeakerId, LocalId
from dispatch.errors import ImageError
from dispatch.image.beaker import Publisher
from dispatch.image.spec import tag_of
from dispatch.reporting import Reporter
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.layers import layered_archive
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

MB = 1 << 20
USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))
SCOPES = [NameScope.AUTHOR, NameScope.WORKSPACE]


def config_of(scope: NameScope = NameScope.AUTHOR) -> Config:
    """Two users, faults on demand."""
    return Config(users=USERS, control=True, assume=Assumptions(names=scope))


@dataclass(frozen=True)
class Built:
    """An image that the engine holds, as a build leaves it."""

    digest: str
    image: LocalId
    lock: str = "a" * 64


@pytest.fixture
def built(door: Door) -> Iterator[Callable[..., Built]]:
    """Loads images of random layers; all are gone at the end, under whatever name."""
    made: list[str] = []

    def make(*sizes: int) -> Built:
        reference = f"dispatch-test-publish:{os.urandom(6).hex()}"
        door.load([layered_archive(reference, [os.urandom(size) for size in sizes or (1000,)])])
        record = door.inspect_image(reference)
        assert record is not None
        made.append(record.id)
        return Built(hashlib.sha256(record.id.encode()).hexdigest(), LocalId(record.id))

    yield make
    for image in made:
        while (record := door.inspect_image(image)) is not None:
            door.remove_image((*record.tags, *record.digests, image)[0])


@pytest.fixture
def publisher_of(door: Door, tmp_path: Path) -> Iterator[Callable[..., Publisher]]:
    """Makes publishers, each with a machine of its own as far as locks tell."""
    doors: list[BeakerDoor] = []

    def make(beaker: LocalBeaker, user: str = "me", engine: Door = door, patience: float = 30.0) -> Publisher:
        doors.append(door_of(beaker, user, patience=patience))
        return Publisher(doors[-1], engine, tmp_path / f"locks-{len(doors)}", sleep=lambda _: None)

    yield make
    for each in doors:
        each.close()


def publish(publisher: Publisher, built: Built, name: str = "tools", report: Reporter | None = None) -> str:
    """Publish, and return the id."""
    made = publisher.publish(name, built.digest, built.lock, built.image, report or RecordingReporter())
    assert isinstance(made, BeakerId)
    return made.id


def images_of(beaker: LocalBeaker, user: str = "me") -> list[tuple[str, bool]]:
    """All images of the workspace: name, and whether it is committed."""
    own = door_of(beaker, user)
    try:
        return [(each.name, each.committed) for each in own.images.search()]
    finally:
        own.close()


def names_in(door: Door, image: LocalId) -> list[str]:
    """What the engine calls an image."""
    record = door.inspect_image(image.id)
    assert record is not None
    return [*record.tags, *record.digests]


class Engine:
    """The real engine, watched. The first ``broken`` pushes break off after the fact; before the first one
    ``meanwhile`` happens."""

    def __init__(self, door: Door, broken: int = 0, meanwhile: Callable[[], object] = lambda: None):
        self._door = door
        self._broken = broken
        self._meanwhile = meanwhile
        self.pushes: list[Credentials] = []
        self.inspect_image, self.tag, self.remove_image = door.inspect_image, door.tag, door.remove_image
        self.pull = door.pull

    def push(
        self, reference: str, report: Reporter, credentials: Credentials, wanted: Callable[[], bool]
    ) -> None:
        """Push."""
        self.pushes.append(credentials)
        if len(self.pushes) == 1:
            self._meanwhile()
        self._door.push(reference, report, credentials, wanted)
        if len(self.pushes) <= self._broken:
            raise ImageError("the line was cut")


def test_everybody_finds_what_one_has_published(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    door: Door,
) -> None:
    """Sent once, with progress in bytes, under a name and a description that hold the digest; another user
    finds it under another name of his own. The engine keeps no name of the registry's."""
    beaker, image = beaker_of(config_of()), built(3 * MB, 5 * MB)
    before, mine, report = names_in(door, image.image), publisher_of(beaker), RecordingReporter()
    assert mine.find(image.digest) is None
    made = publish(mine, image, "Tools of Mine", report)
    found = mine.find(image.digest)
    assert found is not None and (found.id, found.committed) == (made, True)
    assert found.name == f"tools-of-mine--{image.digest[:16]}"
    assert found.docker == image.image.id
    assert json.loads(found.description) == {"dispatch": 1, "digest": image.digest, "lock": image.lock}
    (task,) = report.tasks
    assert (task.state, task.bytes, task.total) == ("done", 8 * MB, 8 * MB)
    assert report.lines == [
        f"Tools of Mine: publishing to Beaker as {found.name}",
        "Tools of Mine: published",
    ]
    assert names_in(door, image.image) == before
    yours = RecordingReporter()
    assert publish(publisher_of(beaker, "you"), image, "other", yours) == made
    assert (yours.lines, yours.tasks) == ([], [])
    assert images_of(beaker) == [(found.name, True)]


@pytest.mark.parametrize("scope", SCOPES)
def test_what_was_begun_and_never_committed_is_ended(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    scope: NameScope,
) -> None:
    """Our own image that a killed client left is pushed again and committed, under its id; another author's
    stays as it is, and ours gets a name of its own where his has it."""
    beaker, image = beaker_of(config_of(scope)), built()
    tag = tag_of("tools", image.digest)
    left = {}
    for user in ("you", "me"):
        own = door_of(beaker, user)
        description = json.dumps({"dispatch": 1, "digest": image.digest, "lock": image.lock})
        name = tag if user == "you" or scope is NameScope.AUTHOR else f"{tag}.left"
        left[user] = own.images.create(name, image.image.id, "", description)
        own.close()
    assert publish(publisher_of(beaker, "me"), image) == left["me"]
    third = built()
    theirs = door_of(beaker, "you")
    description = json.dumps({"dispatch": 1, "digest": third.digest, "lock": third.lock})
    theirs.images.create(tag_of("tools", third.digest), third.image.id, "", description)
    theirs.close()
    made = publish(publisher_of(beaker, "me"), third)
    mine = door_of(beaker)
    expected = tag_of("tools", third.digest) + ("" if scope is NameScope.AUTHOR else ".2")
    told = mine.images.get(made)
    assert (told.name, told.committed, told.docker) == (expected, True, third.image.id)
    mine.close()
    # Its author, too, takes what is whole by now.
    assert publish(publisher_of(beaker, "you"), third) == made


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "description", ["", "a picture", "[]", '{"digest": 7}', json.dumps({"dispatch": 1, "digest": "0" * 64})]
)
def test_a_foreign_image_under_our_name_is_nobody_of_ours(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    scope: NameScope,
    description: str,
) -> None:
    """The description decides: an image of our name that says another digest, or nothing, is not taken for
    ours, nor written to."""
    beaker, image, other = beaker_of(config_of(scope)), built(), built()
    tag, own = tag_of("tools", image.digest), door_of(beaker)
    foreign = own.images.create(tag, other.image.id, "", description)
    made = publish(publisher_of(beaker), image)
    assert made != foreign and own.images.get(made).name == f"{tag}.2"
    assert not own.images.get(foreign).committed
    assert publish(publisher_of(beaker, "you"), image) == made
    own.close()


def test_names_that_are_all_taken_are_told(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
) -> None:
    """Where nine others have its names, the error says which, and nothing goes on for ever."""
    beaker, image = beaker_of(config_of()), built()
    tag, own = tag_of("tools", image.digest), door_of(beaker)
    for name in (tag, *(f"{tag}.{number}" for number in range(2, 10))):
        own.images.create(name, image.image.id, "", "mine")
    own.close()
    with pytest.raises(ImageError, match="have its names on Beaker") as caught:
        publish(publisher_of(beaker), image)
    assert tag in caught.value.remedy


@pytest.mark.parametrize("scope", SCOPES)
def test_four_clients_of_two_users_publish_at_once(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    door: Door,
    scope: NameScope,
) -> None:
    """All get an image that is whole, and from then on all name the same one; of one user there is one."""
    beaker, image = beaker_of(config_of(scope)), built(4 * MB, 4 * MB)
    clients = [publisher_of(beaker, user) for user in ("me", "you", "me", "you")]
    together = threading.Barrier(len(clients))

    def run(client: Publisher) -> str:
        together.wait(60)
        return publish(client, image)

    with ThreadPoolExecutor(len(clients)) as pool:
        made = list(pool.map(run, clients))
    own = door_of(beaker)
    for each in made:
        told = own.images.get(each)
        assert told.committed and told.docker == image.image.id
    own.close()
    assert len({publish(client, image) for client in clients}) == 1
    listed = images_of(beaker)
    assert len(listed) <= 2 and all(committed for _, committed in listed)
    assert not any(":" in name and name.startswith("127.") for name in names_in(door, image.image))


FAULTS = [
    *(
        ("rest:POST /api/v3/images*", kind)
        for kind in ("drop", "lose", "unavailable", "429", "500", "conflict")
    ),
    *(("rest:GET /api/v3/images/*/repository*", kind) for kind in ("drop", "500", "truncate")),
    *(("rest:PATCH /api/v3/images/*", kind) for kind in ("drop", "lose", "500", "conflict")),
    *(("rpc:ListImages", kind) for kind in ("drop", "unavailable", "500", "reset")),
    *(("rpc:GetImage", kind) for kind in ("drop", "500")),
    *(("rest:PUT /v2/*/manifests/*", kind) for kind in ("drop", "lose", "500")),
    ("rest:PATCH /v2/*/blobs/uploads/*", "drop"),
    ("rest:HEAD /v2/*", "unavailable"),
]


def test_faults_on_the_way(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
) -> None:
    """Whatever request goes wrong twice, the image is there in the end, once, under its first name."""
    beaker = beaker_of(config_of())
    faults, struck = Faults(beaker), 0
    for number, (on, kind) in enumerate(FAULTS):
        image = built()
        rule = faults.add(on, kind, times=1 if "/v2/" in on else 2)
        made = publish(publisher_of(beaker), image, f"n{number}")
        struck += faults.hits(rule) > 0
        assert faults.hits(rule) > 0, (on, kind)
        faults.remove(rule)
        own = door_of(beaker)
        assert own.images.get(made).name == tag_of(f"n{number}", image.digest), (on, kind)
        own.close()
    assert struck == len(FAULTS)
    assert len(images_of(beaker)) == len(FAULTS) and all(committed for _, committed in images_of(beaker))


def test_a_push_that_breaks_off_is_begun_again(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    door: Door,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each time with credentials of its own, which no log and no line tells; and not for ever."""
    caplog.set_level(logging.DEBUG)
    beaker, image, report = beaker_of(config_of()), built(), RecordingReporter()
    engine = Engine(door, broken=3)
    made = publish(publisher_of(beaker, engine=engine), image, "tools", report)
    assert len(engine.pushes) == 4 and len({each.password for each in engine.pushes}) == 4
    assert report.lines.count("tools: the line was cut: trying again") == 3
    said = "\n".join([caplog.text, *report.lines, *os.environ.values(), repr(engine.pushes)])
    assert not any(each.password in said for each in engine.pushes)
    assert images_of(beaker) == [(tag_of("tools", image.digest), True)] and made
    other, hopeless = built(), Engine(door, broken=99)
    with pytest.raises(ImageError, match="the line was cut"):
        publish(publisher_of(beaker, engine=hopeless), other)
    assert len(hopeless.pushes) == 5
    kept = dict(images_of(beaker))
    assert kept[tag_of("tools", other.digest)] is False
    publish(publisher_of(beaker), other)
    assert all(committed for _, committed in images_of(beaker))


def test_what_others_do_during_a_push(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
    door: Door,
) -> None:
    """Who removes the image has it made anew; where another client of ours ends it first, that is the one;
    where a teammate has published his own, all name the one that was first made."""
    beaker, gone, ended, twice = beaker_of(config_of()), built(), built(), built()
    own = door_of(beaker)

    def remove() -> None:
        own.images.delete([each.id for each in own.images.search(gone.digest[:16])])

    made = publish(publisher_of(beaker, engine=Engine(door, meanwhile=remove)), gone)
    assert own.images.get(made).committed
    fellow = publisher_of(beaker)
    first: list[str] = []
    racing = Engine(door, meanwhile=lambda: first.append(publish(fellow, ended)))
    assert publish(publisher_of(beaker, engine=racing), ended) == first[0]
    mate = publisher_of(beaker, "you")
    racing = Engine(door, meanwhile=lambda: first.append(publish(mate, twice)))
    made = publish(publisher_of(beaker, engine=racing), twice)
    assert made == min(made, first[1])
    assert publish(mate, twice) == publish(publisher_of(beaker), twice) == made
    assert all(committed for _, committed in images_of(beaker))
    own.close()


def test_a_server_that_is_started_anew_during_a_push(
    beakers: Beakers, publisher_of: Callable[..., Publisher], built: Callable[..., Built]
) -> None:
    """The push goes on, or is begun again: the image is whole in the end, once."""
    beaker, image = beakers.start(config_of()), built(30 * MB, 30 * MB)
    publisher = publisher_of(beaker, patience=60.0)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish, publisher, image)
        deadline = time.monotonic() + 120
        while sum(file.stat().st_size for file in beaker.layout.blobs.glob("uploads/*")) < 2 * MB:
            assert time.monotonic() < deadline and not publishing.done()
            time.sleep(0.005)
        beaker.stop()
        again = beakers.start(config_of())
        made = publishing.result(180)
    own = door_of(again)
    told = own.images.get(made)
    assert told.committed and told.docker == image.image.id
    own.close()
    assert images_of(again) == [(told.name, True)]


def test_a_push_that_is_given_up_ends(
    beaker_of: Callable[[Config], LocalBeaker], built: Callable[..., Built], door: Door, tmp_path: Path
) -> None:
    """It breaks off at once, is not begun again, and leaves no name in the engine."""
    beaker, image = beaker_of(config_of()), built(MB)
    own, before = door_of(beaker), names_in(door, image.image)
    publisher = Publisher(own, door, tmp_path / "locks", wanted=lambda: False)
    with pytest.raises(ImageError, match="given up"):
        publish(publisher, image)
    assert names_in(door, image.image) == before
    own.close()


def test_no_patience_with_a_beaker_that_is_not_there(
    beaker_of: Callable[[Config], LocalBeaker],
    publisher_of: Callable[..., Publisher],
    built: Callable[..., Built],
) -> None:
    """A server that is gone is told of after our patience, once; a token that is revoked at once."""
    beaker, image = beaker_of(config_of()), built()
    publisher = publisher_of(beaker, "you", patience=1.0)
    Faults(beaker).revoke("you")
    with pytest.raises(BeakerDeniedError):
        publish(publisher, image)
    beaker.stop()
    before = time.monotonic()
    with pytest.raises(BeakerUnreachableError):
        publish(publisher_of(beaker, "me", patience=1.0), image)
    assert time.monotonic() - before < 30
