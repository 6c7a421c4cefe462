"""Who is at work: one dataset for each living client, whose description is its heartbeat.

What a client holds (attempts at steps, runs that it drives) names the client's session. A holder is gone

- at once, where its session's dataset is deleted or committed;
- at once, where it was a process of this machine that lives no more, or of an earlier boot of it;
- otherwise, when its heartbeat did not change for three minutes, on our own clock, of our own watching. No
  clock of another machine is ever trusted.

So there is one heartbeat, however many steps are held.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from dispatch._beaker import BeakerDoor, BeakerError, BeakerNotFoundError
from dispatch.workspace.beaker import names
from dispatch.workspace.host import Holder, Host

RENEW_EVERY = 20.0
STALE_AFTER = 180.0
FORMAT = 1
_PARTING = 3.0


class Session:
    """This process's session. ``clock`` is monotonic, in seconds. May be used from several threads."""

    def __init__(
        self, door: BeakerDoor, host: Host | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._door = door
        self._host = host or Host()
        self._clock = clock
        self._lock = threading.RLock()
        self._id = ""
        self._beat = 0
        self._renewed = 0.0
        self._process = 0
        self._watched: dict[str, tuple[str, float]] = {}
        self._beating: threading.Event | None = None

    @property
    def id(self) -> str:
        """The id of the session's dataset, which is made when it is first asked for."""
        with self._lock:
            if not self._id:
                name = f"{names.SESSION}{os.urandom(8).hex()}"
                self._id = self._door.datasets.create(name, self._description()).dataset.id
                self._renewed = self._clock()
                self._process = os.getpid()
                _open.add(self)
                self._sweep()
            return self._id

    def describe(self) -> dict[str, Any]:
        """Return what is to be told with everything that we hold, for :meth:`is_alive` of others."""
        return {"dispatch": FORMAT, "session": self.id, **self._me()}

    def renew(self) -> bool:
        """Tell others that we live, where that is due. True: somebody removed our session, here is a new one.

        What we hold must then be told with the new one. Nothing is sent before there is a session.
        """
        with self._lock:
            now = self._clock()
            if not self._id or now - self._renewed < RENEW_EVERY:
                return False
            self._beat += 1
            try:
                self._door.datasets.describe(self._id, self._description())
            except BeakerNotFoundError:
                self._id = ""
                return bool(self.id)
            self._renewed = now
            return False

    def is_alive(self, session_id: str, told: Mapping[str, Any]) -> bool:
        """Say whether a holder is there, for all we know. ``told`` is what it described itself as."""
        with self._lock:
            if session_id and session_id == self._id:
                return True
        here = self._is_here(told)
        if here is False or not session_id:
            return False
        try:
            dataset = self._door.datasets.get(session_id)
        except BeakerNotFoundError:
            return False
        if dataset.committed:
            return False
        return here is True or self._is_beating(session_id, dataset.description)

    def close(self) -> None:
        """End the session: whatever we still hold is free at once. It begins anew when it is asked for."""
        with self._lock:
            gone, self._id = self._id, ""
            _open.discard(self)
            if self._beating is not None:
                self._beating.set()
                self._beating = None
        if gone:
            self._door.datasets.delete([gone])

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made it; one that was forked since has it by accident."""
        return self._process == os.getpid()

    def keep_beating(self, every: float = RENEW_EVERY) -> None:
        """Renew from a thread of our own, for as long as the session lasts."""
        with self._lock:
            if self._beating is not None:
                return
            over = self._beating = threading.Event()

        def beat() -> None:
            while not over.wait(every):
                with contextlib.suppress(BeakerError):
                    self.renew()

        threading.Thread(target=beat, name="dispatch-session", daemon=True).start()

    def _sweep(self) -> None:
        """Delete the sessions of processes of this machine that are gone for certain."""
        datasets = self._door.datasets
        with contextlib.suppress(BeakerError):
            left = datasets.search(names.SESSION, committed=False, own=True)
            datasets.delete([each.id for each in left if self._is_here(_told(each.description)) is False])

    def _is_here(self, told: Mapping[str, Any]) -> bool | None:
        """Say whether a process of this machine lives; None where that cannot be told from here."""
        try:
            holder = Holder.from_json({"run": "", **told})
        except (KeyError, TypeError, ValueError):
            return None
        me = self._host.me("")
        if _same(me.boot, holder.boot) and _same(me.namespace, holder.namespace):
            return self._host.start_of(holder.pid) == holder.start
        another_boot = bool(me.boot) and bool(holder.boot) and me.boot != holder.boot
        if me.host == holder.host and _same(me.machine, holder.machine) and another_boot:
            return False
        return None

    def _is_beating(self, session_id: str, mark: str) -> bool:
        now = self._clock()
        with self._lock:
            known, since = self._watched.get(session_id, (None, now))
            if known != mark:
                self._watched[session_id] = (mark, now)
                return True
            return now - since < STALE_AFTER

    def _me(self) -> dict[str, Any]:
        me = self._host.me("").to_json()
        del me["run"]
        return me

    def _description(self) -> str:
        return json.dumps({"dispatch": FORMAT, "beat": self._beat, **self._me()})


_open: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _part() -> None:
    """End what sessions are open when the process ends, without waiting long for a server that is away."""

    def close(session: Session) -> None:
        try:
            session.close()
        except BeakerError:
            return

    threads = [
        threading.Thread(target=close, args=(each,), daemon=True)
        for each in list(_open)
        if each.is_of_this_process
    ]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + _PARTING
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))


def _told(description: str) -> dict[str, Any]:
    try:
        told = json.loads(description)
        return told if isinstance(told, dict) else {}
    except ValueError:
        return {}


def _same(ours: str, theirs: str) -> bool:
    return bool(ours) and ours == theirs
