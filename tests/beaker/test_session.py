"""Who is at work on Beaker: sessions, and when their holders count as gone."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dispatch._beaker import BeakerDoor
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.workspace.beaker import session as session_module
from dispatch.workspace.beaker.session import RENEW_EVERY, STALE_AFTER, Session
from dispatch.workspace.host import Holder, Host


class Elsewhere(Host):
    """A process of another machine."""

    def me(self, run: str) -> Holder:
        """Describe it."""
        here = super().me(run)
        return dataclasses.replace(here, host="other", machine="m2", boot="b2", namespace="n2")


class Earlier(Host):
    """A process of an earlier boot of this machine."""

    def me(self, run: str) -> Holder:
        """Describe it."""
        return dataclasses.replace(super().me(run), boot="before")


class Dead(Host):
    """A process of this machine that lives no more."""

    def me(self, run: str) -> Holder:
        """Describe it."""
        return dataclasses.replace(super().me(run), start="1")


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def door(beaker: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door to a server of the test's own."""
    door = door_of(beaker)
    yield door
    door.close()


def test_nothing_is_made_before_it_is_needed(door: BeakerDoor) -> None:
    """A session that holds nothing has no dataset, and renewing or closing it makes none."""
    session = Session(door)
    session.renew()
    session.close()
    assert door.datasets.search("dispatch-session-") == []


def test_a_living_process(door: BeakerDoor) -> None:
    """What describes itself as a living process of this machine is alive, until its session is closed."""
    mine, other = Session(door), Session(door)
    told = mine.describe()
    assert other.is_alive(told["session"], told)
    assert mine.is_alive(told["session"], told)
    mine.close()
    assert not other.is_alive(told["session"], told)
    assert not mine.is_alive(told["session"], told)
    assert door.datasets.search("dispatch-session-") == []


@pytest.mark.parametrize("host", [Earlier(), Dead()])
def test_a_process_that_is_gone(door: BeakerDoor, host: Host) -> None:
    """On this machine the dead are known at once, whatever their session says."""
    gone = Session(door, host)
    told = gone.describe()
    assert not Session(door).is_alive(told["session"], told)


def test_a_committed_session_is_over(door: BeakerDoor) -> None:
    """Whoever commits a session, by hand or with all others, ends it."""
    mine = Session(door)
    told = mine.describe()
    door.datasets.commit(mine.id)
    assert not Session(door).is_alive(told["session"], told)


def test_a_heartbeat_from_elsewhere(door: BeakerDoor) -> None:
    """On another machine a holder is alive for three minutes after each change that we see."""
    theirs, ours = Clock(), Clock()
    far = Session(door, Elsewhere(), theirs)
    near = Session(door, clock=ours)
    told = far.describe()

    def alive() -> bool:
        return near.is_alive(told["session"], told)

    assert alive()
    ours.now += STALE_AFTER - 1
    assert alive()
    theirs.now += RENEW_EVERY
    assert far.renew() is False
    assert alive()
    ours.now += STALE_AFTER - 1
    assert alive()
    ours.now += 1
    assert not alive()
    theirs.now += RENEW_EVERY
    far.renew()
    assert alive()


def test_renewing_costs_one_request_when_it_is_due(door: BeakerDoor) -> None:
    """In between, nothing is sent: the description stays."""
    clock = Clock()
    session = Session(door, clock=clock)
    before = door.datasets.get(session.id).description
    clock.now += RENEW_EVERY - 1
    session.renew()
    assert door.datasets.get(session.id).description == before
    clock.now += 1
    session.renew()
    assert door.datasets.get(session.id).description != before


def test_a_session_that_somebody_removed(door: BeakerDoor) -> None:
    """It is made anew at the next renewal, which says so."""
    clock = Clock()
    session = Session(door, clock=clock)
    first = session.id
    door.datasets.delete([first])
    clock.now += RENEW_EVERY
    assert session.renew() is True
    assert session.id != first
    assert session.is_alive(session.id, session.describe())


def test_a_holder_that_describes_nothing(door: BeakerDoor) -> None:
    """Rubbish in place of a description holds nothing."""
    session = Session(door)
    for told in ({}, {"pid": "x"}, {"session": 3}):
        assert not session.is_alive("", told)
        assert not session.is_alive("no-such-dataset", told)


def test_sessions_of_the_dead_are_swept(door: BeakerDoor) -> None:
    """A new session deletes those of processes of this machine that are gone, and no others."""
    gone = [Session(door, Dead()).id, Session(door, Earlier()).id]
    living = [Session(door).id, Session(door, Elsewhere()).id]
    foreign = door.datasets.create("dispatch-session-notes", "not ours").dataset.id
    mine = Session(door).id
    left = {each.id for each in door.datasets.search("dispatch-session-")}
    assert left == {*living, foreign, mine}
    assert not left & set(gone)


def test_a_busy_process_beats(door: BeakerDoor) -> None:
    """What works in this process has its heartbeat from one thread, until the session is closed."""
    clock = Clock()
    session = Session(door, clock=clock)
    first = door.datasets.get(session.id).description
    session.keep_beating(0.01)
    session.keep_beating(0.01)
    assert _beating() == 1
    clock.now += RENEW_EVERY

    def beats() -> bool:
        return door.datasets.get(session.id).description != first

    assert _soon(beats)
    session.close()
    assert _soon(lambda: _beating() == 0)


def test_a_forked_process_leaves_its_parents_session(door: BeakerDoor) -> None:
    """What is forked, and ends as programs do, does not end the session of who forked it."""
    session = Session(door)
    assert session.id
    pid = os.fork()
    if pid == 0:
        try:
            session_module._part()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not door.datasets.get(session.id).committed
    assert session.is_of_this_process


def _beating() -> int:
    return sum(thread.name == "dispatch-session" for thread in threading.enumerate())


def _soon(holds: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 30
    while not holds() and time.monotonic() < limit:
        time.sleep(0.02)
    return holds()
