"""The door where nothing helps: said by name, in time, and once it is over all goes on."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._beaker import (
    BeakerDeniedError,
    BeakerDoor,
    BeakerError,
    BeakerUnreachableError,
)
from dispatch.beakerd.config import Config
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.beaker_faults import Faults

LIMIT = 60.0


@pytest.fixture(scope="module")
def server(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBeaker]:
    """One server for all, at which faults can be asked for."""
    beakers = Beakers(tmp_path_factory.mktemp("beaker"), tls=authority / "tls")
    beakers.prepare()
    yield beakers.start(Config(control=True))
    beakers.close()


@pytest.fixture
def faults(server: LocalBeaker) -> Iterator[Faults]:
    """Its faults, gone after the test."""
    made = Faults(server)
    yield made
    made.clear()


@pytest.fixture
def door(server: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door to it, that knows who and where it is."""
    made = door_of(server, patience=20.0)
    assert made.account.workspace_id and made.account.user_id and made.account.organization_id
    yield made
    made.close()


def a_dataset(door: BeakerDoor) -> str:
    """A dataset of its own name, with a file."""
    created = door.datasets.create(f"d-{os.urandom(6).hex()}", "x")
    door.datasets.write(created, "a", b"abc")
    return created.dataset.id


def test_a_token_that_is_revoked_is_said_at_once(door: BeakerDoor, faults: Faults) -> None:
    """By both protocols, with what to do; afterwards, all goes on."""
    dataset = a_dataset(door)
    named = door.datasets.get(dataset)
    faults.revoke("me")
    try:
        for act in (
            lambda: door.datasets.get(dataset),
            lambda: door.datasets.create("denied"),
            lambda: door.datasets.read(dataset, "a"),
            lambda: door.datasets.open(named),
            lambda: door.secrets.write("A", "b"),
            lambda: door.experiments.search(),
        ):
            began = time.monotonic()
            with pytest.raises(BeakerDeniedError, match="Beaker refuses") as caught:
                act()
            assert time.monotonic() - began < 15
            assert "BEAKER_TOKEN" in caught.value.remedy
    finally:
        faults.give_back("me")
    assert door.datasets.read(dataset, "a") == b"abc"


@pytest.mark.parametrize("on", ["rpc:*", "rest:*"])
@pytest.mark.parametrize("kind", ["unavailable", "drop", "429"])
def test_who_stays_away_is_named_when_patience_ends(
    server: LocalBeaker, faults: Faults, on: str, kind: str
) -> None:
    """Not before, and not long after."""
    door = door_of(server, patience=2.0)
    dataset = a_dataset(door)
    faults.add(on, kind)
    began = time.monotonic()
    with pytest.raises(BeakerUnreachableError, match=rf"Beaker at {door.address} does not answer: dataset"):
        door.datasets.get(dataset) if on == "rpc:*" else door.datasets.commit(dataset)
    assert 0.5 < time.monotonic() - began < LIMIT
    door.close()


def test_a_door_that_is_closed_waits_no_more(server: LocalBeaker, faults: Faults) -> None:
    """Whoever ends the program does not wait for a server that is away."""
    door = door_of(server, patience=600.0)
    dataset = a_dataset(door)
    fault = faults.add("rest:*", "unavailable")
    failed: list[Exception] = []

    def commit() -> None:
        try:
            door.datasets.commit(dataset)
        except BeakerError as error:
            failed.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    limit = time.monotonic() + LIMIT
    while not faults.hits(fault) and time.monotonic() < limit:
        time.sleep(0.01)
    door.account.call.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert isinstance(failed[0], BeakerUnreachableError)
    door.close()


def test_a_server_that_is_silent_is_given_up(server: LocalBeaker) -> None:
    """Each attempt has a deadline: nothing waits for ever, as the public client would."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"127.0.0.1:{listening.getsockname()[1]}"
        door = BeakerDoor(
            "ai2/my-workspace",
            {**options_of(server), "rpc_address": place, "agent_address": f"http://{place}"},
        )
        limit = door.account.client.limit
        for act in (lambda: door.account.user_id, lambda: door.datasets.commit("x")):
            limit.until = limit.clock() + 1.5
            began = time.monotonic()
            with pytest.raises(BeakerUnreachableError):
                act()
            assert time.monotonic() - began < LIMIT
        door.close()


def test_what_is_no_beaker_is_said(server: LocalBeaker) -> None:
    """A page in its place is no answer, and asking again would not help."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<html>hi\n"

    def serve(listening: socket.socket) -> None:
        for _ in range(2):
            line, _ = listening.accept()
            with line:
                line.recv(1 << 16)
                line.sendall(page)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        place = f"http://127.0.0.1:{listening.getsockname()[1]}"
        door = BeakerDoor("ai2/my-workspace", {**options_of(server), "agent_address": place})
        for act in (
            lambda: door.datasets.create("x"),
            lambda: door.images.create("x", "sha256:0", "x", ""),
        ):
            with pytest.raises(BeakerError, match="it sends no JSON"):
                act()
        door.close()


def test_a_server_is_found_again_soon(beakers: Beakers) -> None:
    """After it was away for a while, the first call that can be answered is answered within seconds."""
    running = beakers.spawn()
    door = door_of(running, patience=LIMIT)
    dataset = a_dataset(door)
    running.kill()
    away = time.monotonic()
    asked = threading.Thread(target=door.datasets.get, args=(dataset,))
    asked.start()
    while time.monotonic() - away < 6:
        time.sleep(0.1)
    beakers.spawn()
    back = time.monotonic()
    asked.join(LIMIT)
    assert not asked.is_alive()
    assert time.monotonic() - back < 15
    door.close()
