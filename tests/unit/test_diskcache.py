"""Copies on this machine's disk: whole or not there, checked, bounded, never taken from who holds them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import WorkspaceError
from dispatch.workspace.beaker.diskcache import DiskCache
from dispatch.workspace.manifest import Content, survey

KIB = 1024


def writer(size: int = KIB, count: list[int] | None = None) -> Callable[[Path], Content]:
    """What fills a copy with one file of so many bytes; each time is counted."""

    def fetch(target: Path) -> Content:
        if count is not None:
            count.append(1)
        target.mkdir(exist_ok=True)
        (target / "data").write_bytes(b"x" * size)
        return survey(target)

    return fetch


def age(cache: DiskCache, key: str, seconds: float) -> None:
    """Let a copy have been used so long ago."""
    when = time.time() - seconds
    os.utime(cache.place(key).parent / "manifest.json", (when, when))


def held(cache: DiskCache, key: str, size: int, seconds: float) -> None:
    """Have a copy, used so long ago, that nobody holds any more."""
    with cache.using(key, writer(size)):
        pass
    age(cache, key, seconds)


def keys(cache: DiskCache, *names: str) -> str:
    """Which of these copies are here."""
    return "".join(name for name in names if cache.place(name).exists())


def test_a_copy_is_fetched_once(tmp_path: Path) -> None:
    """Whoever comes later, in this process or another, finds it."""
    fetched: list[int] = []
    first, second = DiskCache(tmp_path), DiskCache(tmp_path)
    for cache in (first, first, second):
        place = cache.hold("a", writer(count=fetched))
        assert place == cache.place("a")
        assert (place / "data").stat().st_size == KIB
    assert len(fetched) == 1
    assert first.size() == KIB


@pytest.mark.parametrize("damage", ["byte", "gone", "more", "manifest"])
def test_a_damaged_copy_is_fetched_again(tmp_path: Path, damage: str) -> None:
    """Each byte is compared before a copy is used, and all of its names."""
    fetched: list[int] = []
    with DiskCache(tmp_path).using("a", writer(count=fetched)) as place:
        pass
    if damage == "byte":
        (place / "data").write_bytes(b"y" + b"x" * (KIB - 1))
    elif damage == "gone":
        (place / "data").unlink()
    elif damage == "more":
        (place / "more").touch()
    else:
        (place.parent / "manifest.json").write_bytes(b"{}")
    with DiskCache(tmp_path).using("a", writer(count=fetched)) as place:
        assert (place / "data").read_bytes() == b"x" * KIB
        assert [each.name for each in place.iterdir()] == ["data"]
    assert len(fetched) == 2


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """The bound holds, for all but what is held, and what was used within the hour."""
    cache = DiskCache(tmp_path, limit=3 * KIB)
    for key, ago in (("a", 9000), ("b", 8000), ("c", 10000)):
        held(cache, key, KIB, ago)
    cache.hold("c", writer())
    held(cache, "d", KIB, 100)
    assert keys(cache, *"abcd") == "bcd"
    held(cache, "e", KIB, 0)
    held(cache, "f", KIB, 0)
    assert keys(cache, *"abcdef") == "cdef"
    cache.release("c")
    cache.make_room(spared=0)
    assert keys(cache, *"cdef") == "cef"


HOLD = """
import sys, time
from pathlib import Path
from dispatch.workspace.beaker.diskcache import DiskCache
from dispatch.workspace.manifest import survey
def fetch(target):
    target.mkdir(exist_ok=True)
    for number in range(3):
        (target / f"f{number}").write_bytes(b"x" * 1024)
        print(number, flush=True)
        if number == int(sys.argv[2]):
            time.sleep(600)
    return survey(target)
DiskCache(Path(sys.argv[1])).hold("a", fetch)
print("held", flush=True)
time.sleep(600)
"""


def holder(root: Path, stop: int) -> subprocess.Popen[bytes]:
    """Another process that holds a copy, or stops while it fetches it; killed by the test."""
    return subprocess.Popen([sys.executable, "-c", HOLD, str(root), str(stop)], stdout=subprocess.PIPE)


def told(process: subprocess.Popen[bytes], word: bytes) -> None:
    """Wait until the process says a word."""
    assert process.stdout is not None
    assert any(line.strip() == word for line in process.stdout), word


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_another_process_holds_stays_until_it_dies(tmp_path: Path) -> None:
    """A killed process holds nothing."""
    cache = DiskCache(tmp_path, limit=0)
    process = holder(tmp_path, 9)
    try:
        told(process, b"held")
        age(cache, "a", 9000)
        cache.make_room()
        cache.remove("a")
        assert keys(cache, "a") == "a"
    finally:
        end(process)
    cache.make_room()
    assert keys(cache, "a") == ""
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_killed_fetch_is_gone_on_with(tmp_path: Path) -> None:
    """Half a copy is never seen, and what was there of it is given to whoever fetches next."""
    cache = DiskCache(tmp_path)
    process = holder(tmp_path, 1)
    try:
        told(process, b"1")
        assert keys(cache, "a") == ""
    finally:
        end(process)
    assert keys(cache, "a") == ""
    found: list[str] = []

    def fetch(target: Path) -> Content:
        found.extend(sorted(each.name for each in target.iterdir()))
        (target / "f2").touch()
        return survey(target)

    with cache.using("a", fetch) as place:
        assert sorted(each.name for each in place.iterdir()) == ["f0", "f1", "f2"]
    assert found == ["f0", "f1"]


def test_many_ask_and_one_fetches(tmp_path: Path) -> None:
    """The others wait for it, and get the same."""
    fetched: list[int] = []
    caches = [DiskCache(tmp_path) for _ in range(8)]

    def fetch(target: Path) -> Content:
        time.sleep(0.2)
        return writer(count=fetched)(target)

    threads = [threading.Thread(target=each.hold, args=("a", fetch)) for each in caches for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    for cache in caches:
        cache.release("a")
        cache.release("a")
    caches[0].remove("a")
    assert keys(caches[0], "a") == ""


def test_copies_come_and_go_under_many_hands(tmp_path: Path) -> None:
    """Threads that hold, and one that removes all the time: who holds a copy has it whole."""
    stop = threading.Event()
    broken: list[str] = []

    def use() -> None:
        cache = DiskCache(tmp_path, limit=0)
        for number in range(60):
            with cache.using(f"k{number % 3}", writer()) as place:
                time.sleep(0.001)
                if (place / "data").read_bytes() != b"x" * KIB:
                    broken.append(str(place))

    def clear() -> None:
        while not stop.is_set():
            DiskCache(tmp_path, limit=0).make_room(spared=0)

    users = [threading.Thread(target=use) for _ in range(4)]
    clearer = threading.Thread(target=clear)
    for thread in (*users, clearer):
        thread.start()
    for thread in users:
        thread.join()
    stop.set()
    clearer.join()
    assert broken == []


def test_a_failed_fetch_leaves_nothing_to_use(tmp_path: Path) -> None:
    """Its error is the caller's, nothing is held, and the next one may succeed."""
    cache = DiskCache(tmp_path)

    def fail(target: Path) -> Content:
        target.mkdir()
        raise KeyError("no")

    with pytest.raises(KeyError):
        cache.hold("a", fail)
    assert keys(cache, "a") == ""
    with pytest.raises(KeyError):
        cache.release("a")
    cache.hold("a", writer())


def test_a_full_disk_gets_what_nobody_holds(tmp_path: Path) -> None:
    """Then the fetch is tried once more; if that does not help, the error says where to make room."""
    cache = DiskCache(tmp_path)
    held(cache, "old", KIB, 0)
    cache.hold("kept", writer())

    def fetch(target: Path) -> Content:
        if cache.place("old").exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return writer()(target)

    cache.hold("a", fetch)
    assert keys(cache, "old", "kept", "a") == "kepta"

    def never(target: Path) -> Content:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with pytest.raises(WorkspaceError, match="No space left") as caught:
        cache.hold("b", never)
    assert str(tmp_path) in caught.value.remedy


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    """Parts that nobody went on with for an hour, and copies that were only half removed."""
    cache = DiskCache(tmp_path)
    for name, ago in (("old", 9000), ("new", 60)):
        part = tmp_path / "parts" / name
        part.mkdir(parents=True)
        os.utime(part, (time.time() - ago,) * 2)
    (tmp_path / "gone" / "half").mkdir(parents=True)
    cache.make_room()
    assert [each.name for each in (tmp_path / "parts").iterdir()] == ["new"]
    assert list((tmp_path / "gone").iterdir()) == []


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "-x", "x" * 300])
def test_a_key_is_a_name(tmp_path: Path, key: str) -> None:
    """Nothing is written outside."""
    with pytest.raises(ValueError, match="is no name"):
        DiskCache(tmp_path).hold(key, writer())
    assert list(tmp_path.iterdir()) == []
