"""Many clients of beaker-py in one process, each calling so often a second: the seconds each call took."""

from __future__ import annotations

import json
import random
import sys
import threading
import time

from beaker import Beaker


def caller(calls: int, rate: float, start: float, taken: list[float]) -> None:
    """Call at fixed times, one thing after the other; the first calls, which connect, are not counted."""
    with Beaker.from_env(check_for_upgrades=False) as client:
        workspace = client.workspace.get()
        things = (
            client.user.get,
            lambda: client.workspace.get(workspace.id),
            lambda: client.user.get(include_user_details=True),
        )
        when = start + random.random() / rate
        for number in range(calls):
            time.sleep(max(0.0, when - time.monotonic()))
            began = time.perf_counter()
            things[number % len(things)]()
            taken.append(time.perf_counter() - began)
            when += 1 / rate


def main(clients: int, rate: float, seconds: float) -> None:
    """Print what all of them took."""
    taken: list[float] = []
    start = time.monotonic() + 2
    threads = [
        threading.Thread(target=caller, args=(int(rate * seconds), rate, start, taken))
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(taken))


main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
