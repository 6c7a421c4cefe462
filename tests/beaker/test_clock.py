"""A wall clock that is set back between two lives of a server."""

from __future__ import annotations

import time

from dispatch.testing.beaker import Beakers

HOUR = 3600 * 10**9


def test_what_is_made_after_a_restart_is_later(beakers: Beakers) -> None:
    """Ids and times go on from what is recorded, though the clock was set back by an hour meanwhile."""
    first = beakers.start()
    with first.client() as client:
        before = client.dataset.create("before", commit=False)
    first.stop()
    second = beakers.start(wall=lambda: time.time_ns() - HOUR)
    with second.client() as client:
        after = client.dataset.create("after", commit=False)
        listed = [each.name for each in client.dataset.list(sort_field="created")]
    assert after.id > before.id
    assert after.created.ToNanoseconds() > before.created.ToNanoseconds()
    assert listed == ["after", "before"]


def test_tokens_live_on_over_a_clock_that_is_set_back(beakers: Beakers) -> None:
    """A user's token is good after it, and a storage token's time is no shorter than it was."""
    server = beakers.start()
    with server.client() as client:
        dataset = client.dataset.create("mine", commit=False)
        server.stop()
        beakers.start(wall=lambda: time.time_ns() - HOUR)
        client.dataset.upload(dataset, b"content", "file")
        assert [each.path for each in client.dataset.list_files(dataset)] == ["file"]
