"""Faults of uploads and downloads, and what the real client makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from beaker import exceptions

from dispatch.beakerd.config import Config
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_faults import Faults

CONTENT = os.urandom(300_000)


@pytest.fixture
def server(beakers: Beakers) -> LocalBeaker:
    """A server that takes faults."""
    return beakers.start(Config(control=True))


@pytest.fixture
def faults(server: LocalBeaker) -> Faults:
    """Its faults."""
    return Faults(server)


@pytest.fixture
def client(server: LocalBeaker) -> Iterator[Any]:
    """The real client, which waits for less time between its attempts."""
    with server.client() as client:
        client.BACKOFF_FACTOR = 0.01
        yield client


@pytest.fixture
def dataset(client: Any, tmp_path: Path) -> Any:
    """A dataset of one file."""
    (tmp_path / "file").write_bytes(CONTENT)
    return client.dataset.create("whole", tmp_path / "file", commit=True)


def read(client: Any, dataset: Any) -> bytes:
    """The file, downloaded and verified."""
    return b"".join(client.dataset.stream_file(dataset, "file", chunk_size=1000))


def test_a_truncated_download_is_taken_up_where_it_broke(faults: Faults, client: Any, dataset: Any) -> None:
    """Several times over; the whole is verified in the end."""
    fault = faults.add("rest:GET */files/*", "truncate", times=3)
    assert read(client, dataset) == CONTENT
    assert faults.hits(fault) == 3


def test_a_corrupt_download_is_refused(faults: Faults, client: Any, dataset: Any) -> None:
    """By its checksum, without another attempt."""
    fault = faults.add("rest:GET */files/*", "corrupt", times=1)
    with pytest.raises(exceptions.BeakerChecksumFailedError):
        read(client, dataset)
    assert faults.hits(fault) == 1
    assert read(client, dataset) == CONTENT


def test_a_download_that_is_not_what_was_listed_is_refused(faults: Faults, client: Any, dataset: Any) -> None:
    """The bytes are right here, and the listed digest is wrong."""
    fault = faults.add("rpc:ListDatasetFiles", "wrong-digest", times=1)
    with pytest.raises(exceptions.BeakerChecksumFailedError):
        read(client, dataset)
    assert faults.hits(fault) == 1


def test_a_lost_creation_was_made_all_the_same(faults: Faults, client: Any, tmp_path: Path) -> None:
    """The client does not repeat it; asked again, the name is in use. Of a dropped one there is nothing."""
    (tmp_path / "file").write_bytes(CONTENT)
    for kind, there in (("drop", False), ("lose", True)):
        faults.add("rest:POST */datasets", kind, times=1)
        with pytest.raises(requests.ConnectionError):
            client.dataset.create(kind, tmp_path / "file")
        if there:
            with pytest.raises(exceptions.BeakerDatasetConflict):
                client.dataset.create(kind, tmp_path / "file")
        else:
            client.dataset.create(kind, tmp_path / "file")


def test_a_retryable_conflict_is_retried(faults: Faults, client: Any, tmp_path: Path) -> None:
    """It is no conflict of names."""
    (tmp_path / "file").write_bytes(CONTENT)
    fault = faults.add("rest:POST */datasets", "conflict", times=3)
    assert read(client, client.dataset.create("kept", tmp_path / "file")) == CONTENT
    assert faults.hits(fault) == 3


def test_pieces_of_an_upload_are_repeated(faults: Faults, client: Any, tmp_path: Path) -> None:
    """Whether they were lost before or after they were written."""
    client.dataset.REQUEST_SIZE_LIMIT = 50_000
    (tmp_path / "file").write_bytes(CONTENT)
    found = [faults.add("rest:PATCH /uploads/*", kind, times=2, after=2) for kind in ("drop", "lose")]
    assert read(client, client.dataset.create("pieces", tmp_path / "file")) == CONTENT
    assert [faults.hits(fault) for fault in found] == [2, 2]


def test_an_upload_of_another_digest_is_refused(faults: Faults, client: Any, tmp_path: Path) -> None:
    """The server holds what the client says of a file against what it got."""
    client.dataset.REQUEST_SIZE_LIMIT = 50_000
    (tmp_path / "file").write_bytes(CONTENT)
    fault = faults.add("rest:PATCH /uploads/*", "wrong-digest", times=1)
    with pytest.raises(exceptions.BeakerError, match="code=4"):
        client.dataset.create("other", tmp_path / "file")
    assert faults.hits(fault) == 1


def test_a_small_upload_that_was_lost_is_never_an_empty_file(
    faults: Faults, client: Any, tmp_path: Path
) -> None:
    """The public client repeats it with a file that it has read to its end: that is refused, and said."""
    (tmp_path / "file").write_bytes(CONTENT)
    faults.add("rest:PUT *", "lose", times=1)
    with pytest.raises(exceptions.BeakerError, match="without its bytes"):
        client.dataset.create("small", tmp_path / "file")
