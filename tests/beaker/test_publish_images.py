"""Generated images on their way to Beaker: by the real engine, to a local Beaker's registry."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dispatch.beakerd.config import Config, NameScope
from dispatch.errors import ImageError
from dispatch.image.beaker import Publisher
from dispatch.image.spec import tag_of
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_images import Bench, config_of, publish
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

MB = 1 << 20
SCOPES = [NameScope.AUTHOR, NameScope.WORKSPACE]


def test_everybody_finds_what_one_has_published(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
) -> None:
    """Sent once, with progress in bytes, under a name and a description that hold the digest; another user
    finds it under another name of his own. The engine keeps no name of the registry's."""
    beaker, image = beaker_of(config_of()), bench.built(3 * MB, 5 * MB)
    before, mine, report = bench.names(image.image), bench.publisher(beaker), RecordingReporter()
    assert mine.find(image.digest) is None
    made = publish(mine, image, "Tools of Mine", report)
    found = mine.find(image.digest)
    assert found is not None and (found.id, found.committed) == (made, True)
    assert found.name == f"tools-of-mine--{image.digest[:16]}"
    assert found.docker == image.image.id
    assert json.loads(found.description) == {"dispatch": 1, "digest": image.digest, "lock": image.lock}
    (task,) = report.tasks
    assert (task.state, task.bytes, task.total) == ("done", 8 * MB, 8 * MB)
    assert task.name == f"{found.name}: pushing"
    assert report.lines == [
        f"Tools of Mine: publishing to Beaker as {found.name}",
        "Tools of Mine: published",
    ]
    assert bench.names(image.image) == before
    yours = RecordingReporter()
    assert publish(bench.publisher(beaker, "you"), image, "other", yours) == made
    assert (yours.lines, yours.tasks) == ([], [])
    assert bench.images(beaker) == [(found.name, True)]


@pytest.mark.parametrize("scope", SCOPES)
def test_what_was_begun_and_never_committed_is_ended(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
    scope: NameScope,
) -> None:
    """Our own image that a killed client left is pushed again and committed, under its id; another author's
    stays as it is, and ours gets a name of its own where his has it."""
    beaker, image = beaker_of(config_of(scope)), bench.built()
    tag = tag_of("tools", image.digest)
    left = {}
    for user in ("you", "me"):
        own = bench.beaker(beaker, user)
        description = json.dumps({"dispatch": 1, "digest": image.digest, "lock": image.lock})
        name = tag if user == "you" or scope is NameScope.AUTHOR else f"{tag}.left"
        left[user] = own.images.create(name, image.image.id, "", description)
    assert publish(bench.publisher(beaker, "me"), image) == left["me"]
    third = bench.built()
    theirs = bench.beaker(beaker, "you")
    description = json.dumps({"dispatch": 1, "digest": third.digest, "lock": third.lock})
    theirs.images.create(tag_of("tools", third.digest), third.image.id, "", description)
    made = publish(bench.publisher(beaker, "me"), third)
    mine = bench.beaker(beaker)
    expected = tag_of("tools", third.digest) + ("" if scope is NameScope.AUTHOR else ".2")
    told = mine.images.get(made)
    assert (told.name, told.committed, told.docker) == (expected, True, third.image.id)
    # Its author, too, takes what is whole by now.
    assert publish(bench.publisher(beaker, "you"), third) == made


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "description", ["", "a picture", "[]", '{"digest": 7}', json.dumps({"dispatch": 1, "digest": "0" * 64})]
)
def test_a_foreign_image_under_our_name_is_nobody_of_ours(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
    scope: NameScope,
    description: str,
) -> None:
    """The description decides: an image of our name that says another digest, or nothing, is not taken for
    ours, nor written to."""
    beaker, image, other = beaker_of(config_of(scope)), bench.built(), bench.built()
    tag, own = tag_of("tools", image.digest), bench.beaker(beaker)
    foreign = own.images.create(tag, other.image.id, "", description)
    made = publish(bench.publisher(beaker), image)
    assert made != foreign and own.images.get(made).name == f"{tag}.2"
    assert not own.images.get(foreign).committed
    assert publish(bench.publisher(beaker, "you"), image) == made


def test_names_that_are_all_taken_are_told(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
) -> None:
    """Where nine others have its names, the error says which, and nothing goes on for ever."""
    beaker, image = beaker_of(config_of()), bench.built()
    tag, own = tag_of("tools", image.digest), bench.beaker(beaker)
    for name in (tag, *(f"{tag}.{number}" for number in range(2, 10))):
        own.images.create(name, image.image.id, "", "mine")
    with pytest.raises(ImageError, match="have its names on Beaker") as caught:
        publish(bench.publisher(beaker), image)
    assert tag in caught.value.remedy


@pytest.mark.parametrize("scope", SCOPES)
def test_four_clients_of_two_users_publish_at_once(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
    scope: NameScope,
) -> None:
    """All get an image that is whole, and from then on all name the same one; of one user there is one."""
    beaker, image = beaker_of(config_of(scope)), bench.built(4 * MB, 4 * MB)
    clients = [bench.publisher(beaker, user) for user in ("me", "you", "me", "you")]
    together = threading.Barrier(len(clients))

    def run(client: Publisher) -> str:
        together.wait(60)
        return publish(client, image)

    with ThreadPoolExecutor(len(clients)) as pool:
        made = list(pool.map(run, clients))
    own = bench.beaker(beaker)
    for each in made:
        told = own.images.get(each)
        assert told.committed and told.docker == image.image.id
    assert len({publish(client, image) for client in clients}) == 1
    listed = bench.images(beaker)
    assert len(listed) <= 2 and all(committed for _, committed in listed)
    assert not any(name.startswith("127.") for name in bench.names(image.image))
