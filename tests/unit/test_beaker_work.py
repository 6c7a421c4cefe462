"""Several files at once: in their order, a few at a time, and all of them end with the first error."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from dispatch._beaker.work import WORKERS, Work


def test_answers_come_in_the_order_of_the_questions() -> None:
    """However long each takes; never more than a few at the same time."""
    running: list[str] = []
    most: list[int] = []

    def act(item: str) -> int:
        running.append(item)
        most.append(len(running))
        time.sleep(0.001 * (int(item) % 3))
        running.remove(item)
        return int(item)

    assert Work().each(act, [str(number) for number in range(50)]) == list(range(50))
    assert 1 < max(most) <= WORKERS
    assert Work().each(act, []) == []


def test_the_first_error_ends_the_others() -> None:
    """Those that are on their way stop at their next block, those that wait are not begun."""
    work = Work()
    begun: list[str] = []
    started = threading.Barrier(2)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    def act(item: str) -> int:
        begun.append(item)
        if item == "bad":
            started.wait(30)
            raise ValueError("bad")
        if item == "long":
            started.wait(30)
        return sum(len(block) for block in work.going_on(endless()))

    with pytest.raises(ValueError, match="bad"):
        work.each(act, ["long", "bad", *(f"later{number}" for number in range(100))])
    assert len(begun) <= WORKERS + 1


INTERRUPTED = """
import sys, time
from dispatch._beaker.work import Work
def act(item):
    print("begun", flush=True)
    time.sleep(600)
try:
    Work().each(act, ["a"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_waits_for_nobody() -> None:
    """The program ends, though a server keeps a thread waiting."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("interrupted\n", 0)
