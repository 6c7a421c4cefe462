"""Images on their way to and from registries: references, names, and how often one begins again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatch._beaker import BeakerDeniedError, BeakerUnreachableError
from dispatch._docker import Credentials, EngineAbsentError, ImageRecord
from dispatch.errors import DispatchError, EngineError, ImageError
from dispatch.image.registry import PAUSES, FinalError, persistently, split_reference, without_name
from dispatch.reporting import Reporter
from dispatch.testing.images import FakeImageStore, base_image
from dispatch.testing.reporting import RecordingReporter


@pytest.mark.parametrize(
    ("reference", "repository", "tag"),
    [
        ("127.0.0.1:5000/01abc:latest", "127.0.0.1:5000/01abc", "latest"),
        ("127.0.0.1:5000/01abc", "127.0.0.1:5000/01abc", "latest"),
        ("registry.example/team/image:1.2", "registry.example/team/image", "1.2"),
        ("image", "image", "latest"),
        ("dispatch-beaker:01ABC", "dispatch-beaker", "01ABC"),
    ],
)
def test_references(reference: str, repository: str, tag: str) -> None:
    """A colon before a port is no colon before a tag."""
    assert split_reference(reference) == (repository, tag)


@pytest.mark.parametrize(
    ("error", "begun"),
    [
        (ImageError("cut"), len(PAUSES) + 1),
        (EngineError("cut"), len(PAUSES) + 1),
        (FinalError("never"), 1),
        (BeakerDeniedError("no"), 1),
        (BeakerUnreachableError("gone"), 1),
        (EngineAbsentError("gone"), 1),
    ],
)
def test_what_is_begun_again(error: DispatchError, begun: int) -> None:
    """What may come to something the next time, each time later, and told; the last error is the caller's."""
    tries: list[int] = []
    slept: list[float] = []
    report = RecordingReporter()

    def transfer() -> None:
        tries.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        persistently(transfer, "tools", report, slept.append)
    assert caught.value is error
    assert (len(tries), slept) == (begun, list(PAUSES[: begun - 1]))
    assert report.lines == [f"tools: {error.message}: trying again"] * (begun - 1)


def test_what_is_not_wanted_is_not_begun_again() -> None:
    """Who gave up is not made to wait."""
    tries: list[int] = []
    slept: list[float] = []

    def transfer() -> None:
        tries.append(1)
        raise ImageError("given up")

    with pytest.raises(ImageError):
        persistently(transfer, "tools", RecordingReporter(), slept.append, lambda: False)
    assert (len(tries), slept) == (1, [])


class Store(FakeImageStore):
    """A store that removes names, and images with their last."""

    removal: DispatchError | None = None

    def remove_image(self, reference: str) -> None:
        """Remove a name."""
        if self.removal is not None:
            raise self.removal
        (record,) = [each for each in self.images.values() if reference in (*each.tags, *each.digests)]
        kept = tuple(tag for tag in record.tags if tag != reference)
        digests = tuple(digest for digest in record.digests if digest != reference)
        self.images[record.id] = replace(record, tags=kept, digests=digests)
        if not kept:
            del self.images[record.id]

    def push(self, reference: str, report: Reporter, credentials: Credentials, wanted: object) -> None:
        """Nothing is pushed here."""

    def pull(self, reference: str, report: Reporter, credentials: Credentials | None = None) -> ImageRecord:
        """As ever."""
        del credentials
        return super().pull(reference, report)


def test_the_last_name_stays() -> None:
    """A registry's name goes where there is another; with the last one the image would go."""
    store = Store()
    record = store.add(replace(base_image("one"), tags=("dispatch:one", "registry/x:latest")))
    without_name(store, "registry/x:latest", record.id)
    assert store.images[record.id].tags == ("dispatch:one",)
    without_name(store, "dispatch:one", record.id)
    without_name(store, "never/there:1", record.id)
    assert store.images[record.id].tags == ("dispatch:one",)


def test_a_push_that_lost_its_name_leaves_no_digest() -> None:
    """Another client took the name of both: what the engine keeps of this push goes, no other."""
    store = Store()
    kept = "registry/y@sha256:1"
    digests = ("registry/x@sha256:1", kept)
    record = store.add(replace(base_image("one"), tags=("dispatch:one",), digests=digests))
    without_name(store, "registry/x:latest", record.id)
    assert store.images[record.id].digests == (kept,)


def test_a_name_that_cannot_be_taken_away_is_no_failure() -> None:
    """What was transferred counts."""
    store = Store()
    record = store.add(replace(base_image("one"), tags=("dispatch:one", "registry/x:latest")))
    store.removal = ImageError("in use")
    without_name(store, "registry/x:latest", record.id)
    assert len(store.images[record.id].tags) == 2
