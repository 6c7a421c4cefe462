"""Time and names that only ever go up.

Owns the server's clock and the ids made from it. The wall clock may be set back; what is recorded never goes
back with it, or listings would lose their order and followers of logs their place. Durations are measured on
the monotonic clock, by whoever needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80


class Clock:
    """Nanoseconds since the epoch, each call later than all before; never before ``floor``."""

    def __init__(self, wall: Callable[[], int], floor: int = 0):
        self._wall = wall
        self._last = floor
        self._lock = threading.Lock()

    def now(self) -> int:
        """The time, in nanoseconds since the epoch."""
        with self._lock:
            self._last = max(self._wall(), self._last + 1)
            return self._last


class Ids:
    """ULIDs (26 characters, 48 bits of milliseconds, 80 random bits), each greater than all before.

    ``entropy(n)`` returns n random bytes.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes]):
        self._clock = clock
        self._entropy = entropy
        self._last = 0
        self._lock = threading.Lock()

    def new(self) -> str:
        """Return an id that no other thing has."""
        milliseconds = self._clock.now() // 1_000_000
        fresh = (milliseconds << _RANDOM_BITS) | int.from_bytes(self._entropy(10), "big")
        with self._lock:
            self._last = max(fresh, self._last + 1)
            value = self._last
        return "".join(_CROCKFORD[(value >> (5 * place)) & 31] for place in range(25, -1, -1))
