"""Who holds a step, and when a holder counts as gone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.testing.faults import FakeClock, FakeHost
from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Holder, Host
from dispatch.workspace.leases import Leases

OURS = Holder("here", "machine-1", "boot-1", "pid:[1]", 10, "100", "run")
ELSEWHERE = Holder("there", "machine-2", "boot-2", "pid:[1]", 10, "100", "run")


@pytest.fixture
def clock() -> FakeClock:
    """A clock."""
    return FakeClock()


def leases_of(directory: Path, clock: FakeClock, me: Holder, alive: dict[int, str] | None = None) -> Leases:
    """The leases as the process ``me`` sees them."""
    return Leases(directory, Disk(), FakeHost(me, alive or {}), clock)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 33])
def test_highest_number_is_found(tmp_path: Path, clock: FakeClock, count: int) -> None:
    """The highest number is found however many there are, and other steps' leases do not matter."""
    leases = leases_of(tmp_path, clock, OURS)
    for number in range(1, count + 1):
        assert leases.take("Step-a", number, "run", "now")
    assert leases.take("Step-b", 1, "run", "now")
    assert leases.highest("Step-a") == count


def test_a_number_is_taken_once(tmp_path: Path, clock: FakeClock) -> None:
    """Of two that take the same number one gets it, whole, and no other file is left."""
    one, two = leases_of(tmp_path, clock, OURS), leases_of(tmp_path, clock, replace(OURS, pid=11))
    assert one.take("Step-a", 1, "first", "now")
    assert not two.take("Step-a", 1, "second", "now")
    lease = two.read("Step-a", 1)
    assert lease is not None
    assert lease.holder == replace(OURS, run="first")
    assert [path.name for path in tmp_path.iterdir()] == ["Step-a.1"]


@pytest.mark.parametrize(
    ("holder", "alive", "at_once", "later"),
    [
        pytest.param(OURS, {10: "100"}, False, False, id="alive here"),
        pytest.param(OURS, {}, True, True, id="gone here"),
        pytest.param(OURS, {10: "999"}, True, True, id="its number belongs to another process"),
        pytest.param(replace(OURS, boot="boot-0"), {10: "100"}, True, True, id="before the last boot"),
        pytest.param(replace(OURS, boot="boot-0", machine=""), {10: "100"}, False, True, id="same name only"),
        pytest.param(replace(OURS, namespace="pid:[2]"), {}, False, True, id="in another container"),
        pytest.param(
            ELSEWHERE,
            {},
            False,
            True,
            id="elsewhere",
        ),
        pytest.param(Holder("here", "", "", "", 10, "100", "run"), {}, False, True, id="no identity"),
    ],
)
def test_staleness(
    tmp_path: Path,
    clock: FakeClock,
    holder: Holder,
    alive: dict[int, str],
    at_once: bool,
    later: bool,
) -> None:
    """A holder is gone at once where we can know it, elsewhere after three minutes without a sign."""
    leases_of(tmp_path, clock, holder).take("Step-a", 1, "run", "now")
    observer = leases_of(tmp_path, clock, replace(OURS, pid=20), alive)

    def stale() -> bool:
        lease = observer.read("Step-a", 1)
        assert lease is not None
        return observer.stale(lease)

    assert stale() == at_once
    clock.time += 179
    assert stale() == at_once
    clock.time += 1
    assert stale() == later


def test_renewal_is_a_sign_of_life(tmp_path: Path, clock: FakeClock) -> None:
    """A holder on another machine that renews is never stale, however long it works."""
    holder = leases_of(tmp_path, clock, replace(OURS, boot="boot-2", machine="machine-2", host="there"))
    holder.take("Step-a", 1, "run", "now")
    os.utime(tmp_path / "Step-a.1", (1, 1))
    observer = leases_of(tmp_path, clock, OURS)
    for minute in range(10):
        lease = observer.read("Step-a", 1)
        assert lease is not None
        assert not observer.stale(lease)
        clock.time += 60
        assert holder.renew() == []
        os.utime(tmp_path / "Step-a.1", (minute + 2, minute + 2))


def test_renewal_waits_for_its_time(tmp_path: Path, clock: FakeClock) -> None:
    """A lease is renewed every thirty seconds at most, and not after it was dropped."""
    leases = leases_of(tmp_path, clock, OURS)
    leases.take("Step-a", 1, "run", "now")
    path = tmp_path / "Step-a.1"
    os.utime(path, (1, 1))
    clock.time += 29
    leases.renew()
    assert path.stat().st_mtime == 1
    clock.time += 1
    leases.renew()
    assert path.stat().st_mtime > 1
    os.utime(path, (1, 1))
    leases.drop("Step-a", 1)
    clock.time += 100
    leases.renew()
    assert path.stat().st_mtime == 1


def test_renewal_tells_what_was_lost(tmp_path: Path, clock: FakeClock) -> None:
    """A holder learns at its next renewal that a higher number was taken."""
    leases = leases_of(tmp_path, clock, OURS)
    leases.take("Step-a", 1, "run", "now")
    leases_of(tmp_path, clock, replace(OURS, pid=11)).take("Step-a", 2, "run", "now")
    clock.time += 30
    assert leases.renew() == [("Step-a", 1)]


def test_unreadable_lease_is_given_three_minutes(tmp_path: Path, clock: FakeClock) -> None:
    """A lease that cannot be read may be in the making: it holds until untouched for three minutes."""
    (tmp_path / "Step-a.1").write_bytes(b"")
    leases = leases_of(tmp_path, clock, OURS)
    lease = leases.read("Step-a", 1)
    assert lease is not None
    assert not leases.stale(lease)
    clock.time += 180
    assert leases.stale(lease)


def test_this_process_is_alive() -> None:
    """The real machine knows this process, tells it from a dead one, and describes it in words."""
    host = Host()
    me = host.me("calm-heron-007")
    assert host.start_of(me.pid) == me.start
    assert host.start_of(2**22 + 1) is None
    assert me.boot
    assert "calm-heron-007" in str(me)
    assert Holder.from_json(me.to_json()) == me
