"""Images on their way to Beaker while servers, lines and other clients do their worst."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDeniedError, BeakerUnreachableError
from dispatch.beakerd.config import Config
from dispatch.errors import ImageError
from dispatch.image.beaker import Publisher
from dispatch.image.spec import tag_of
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_images import Bench, WatchedEngine, config_of, publish
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

MB = 1 << 20


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
    bench: Bench,
) -> None:
    """Whatever request goes wrong twice, the image is there in the end, once, under its first name."""
    beaker = beaker_of(config_of())
    faults = Faults(beaker)
    for number, (on, kind) in enumerate(FAULTS):
        image = bench.built()
        rule = faults.add(on, kind, times=1 if "/v2/" in on else 2)
        made = publish(bench.publisher(beaker), image, f"n{number}")
        assert faults.hits(rule) > 0, (on, kind)
        faults.remove(rule)
        name = bench.beaker(beaker).images.get(made).name
        assert name == tag_of(f"n{number}", image.digest), (on, kind)
    assert [committed for _, committed in bench.images(beaker)] == [True] * len(FAULTS)


def test_a_push_that_breaks_off_is_begun_again(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each time with credentials of its own, which no log and no line tells; and not for ever."""
    caplog.set_level(logging.DEBUG)
    beaker, image, report = beaker_of(config_of()), bench.built(), RecordingReporter()
    engine = WatchedEngine(bench.door, broken=3)
    made = publish(bench.publisher(beaker, engine=engine), image, "tools", report)
    assert len(engine.pushes) == 4 and len({each.password for each in engine.pushes}) == 4
    assert report.lines.count("tools: the line was cut: trying again") == 3
    said = "\n".join([caplog.text, *report.lines, *os.environ.values(), repr(engine.pushes)])
    assert not any(each.password in said for each in engine.pushes)
    assert bench.images(beaker) == [(tag_of("tools", image.digest), True)] and made
    other, hopeless = bench.built(), WatchedEngine(bench.door, broken=99)
    with pytest.raises(ImageError, match="the line was cut"):
        publish(bench.publisher(beaker, engine=hopeless), other)
    assert len(hopeless.pushes) == 5
    kept = dict(bench.images(beaker))
    assert kept[tag_of("tools", other.digest)] is False
    publish(bench.publisher(beaker), other)
    assert all(committed for _, committed in bench.images(beaker))


def test_what_others_do_during_a_push(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
) -> None:
    """Who removes the image has it made anew; where another client of ours ends it first, that is the one;
    where a teammate has published his own, all name the one that was first made."""
    beaker, gone, ended, twice = beaker_of(config_of()), bench.built(), bench.built(), bench.built()
    own = bench.beaker(beaker)

    def remove() -> None:
        own.images.delete([each.id for each in own.images.search(gone.digest[:16])])

    made = publish(bench.publisher(beaker, engine=WatchedEngine(bench.door, meanwhile=remove)), gone)
    assert own.images.get(made).committed
    fellow = bench.publisher(beaker)
    first: list[str] = []
    racing = WatchedEngine(bench.door, meanwhile=lambda: first.append(publish(fellow, ended)))
    assert publish(bench.publisher(beaker, engine=racing), ended) == first[0]
    mate = bench.publisher(beaker, "you")
    racing = WatchedEngine(bench.door, meanwhile=lambda: first.append(publish(mate, twice)))
    made = publish(bench.publisher(beaker, engine=racing), twice)
    assert made == min(made, first[1])
    assert publish(mate, twice) == publish(bench.publisher(beaker), twice) == made
    assert all(committed for _, committed in bench.images(beaker))


def test_a_server_that_is_started_anew_during_a_push(beakers: Beakers, bench: Bench) -> None:
    """The push goes on, or is begun again: the image is whole in the end, once."""
    beaker, image = beakers.start(config_of()), bench.built(30 * MB, 30 * MB)
    publisher = bench.publisher(beaker, patience=60.0)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish, publisher, image)
        deadline = time.monotonic() + 120
        while sum(file.stat().st_size for file in beaker.layout.blobs.glob("uploads/*")) < 2 * MB:
            assert time.monotonic() < deadline and not publishing.done()
            time.sleep(0.005)
        beaker.stop()
        again = beakers.start(config_of())
        made = publishing.result(180)
    own = bench.beaker(again)
    told = own.images.get(made)
    assert told.committed and told.docker == image.image.id
    assert bench.images(again) == [(told.name, True)]


def test_a_push_that_is_given_up_ends(
    beaker_of: Callable[[Config], LocalBeaker], bench: Bench, tmp_path: Path
) -> None:
    """It breaks off at once, is not begun again, and leaves no name in the engine."""
    beaker, image = beaker_of(config_of()), bench.built(MB)
    own, before = bench.beaker(beaker), bench.names(image.image)
    publisher = Publisher(own, bench.door, tmp_path / "locks", wanted=lambda: False)
    with pytest.raises(ImageError, match="given up"):
        publish(publisher, image)
    assert bench.names(image.image) == before


def test_no_patience_with_a_beaker_that_is_not_there(
    beaker_of: Callable[[Config], LocalBeaker],
    bench: Bench,
) -> None:
    """A server that is gone is told of after our patience, once; a token that is revoked at once."""
    beaker, image = beaker_of(config_of()), bench.built()
    publisher = bench.publisher(beaker, "you", patience=1.0)
    Faults(beaker).revoke("you")
    with pytest.raises(BeakerDeniedError):
        publish(publisher, image)
    beaker.stop()
    before = time.monotonic()
    with pytest.raises(BeakerUnreachableError):
        publish(bench.publisher(beaker, "me", patience=1.0), image)
    assert time.monotonic() - before < 30
