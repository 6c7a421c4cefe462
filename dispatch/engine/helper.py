"""The client's end of a zygote: a helper process that starts steps on this machine (``runtime.zygote``).

Owns that process and the pipes to it. Knows jobs by their keys alone, and refuses to judge their ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

_BLOCK = 1 << 16
_LAST_BYTES = 4096
# It kills and waits for what it started before it ends.
FAREWELL = 10.0

Launch: TypeAlias = "Callable[..., subprocess.Popen[bytes]]"
# Variables that a helper has beside the engine's own, sorted.
Surroundings: TypeAlias = tuple[tuple[str, str], ...]


class Helper:
    """One helper process. Orders may come from several threads, messages are received by one.

    ``ready`` says that it has begun to work, ``gone`` (not empty) how it ended.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], launch: Launch) -> None:
        # Its own words matter only if it dies, and then only the last of them.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own, so that Ctrl-C at the terminal reaches the client alone.
        self._process = launch(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=dict(environ),
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._messages = self._process.stdin, self._process.stdout
        self._sending = threading.Lock()
        self._incoming = b""
        self.ready = False
        self.gone = ""

    def fileno(self) -> int:
        """The descriptor on which messages come in."""
        return self._messages.fileno()

    def start(self, key: str, job: Mapping[str, Any]) -> None:
        """Have a job started; see ``runtime.zygote`` for what it is."""
        self._send({"start": key, **job})

    def stop(self, key: str, grace: float) -> None:
        """Have a job stopped."""
        self._send({"stop": key, "grace": grace})

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come, waiting for some; None when the helper is gone."""
        block = os.read(self.fileno(), _BLOCK)
        if not block:
            return None
        *lines, self._incoming = (self._incoming + block).split(b"\n")
        messages = [json.loads(line) for line in lines]
        self.ready = self.ready or bool(messages)
        return [message for message in messages if "ready" not in message]

    def epitaph(self) -> str:
        """Say why a helper that is gone has gone: its last words, else its exit code."""
        code = self._wait()
        self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, self._words.tell() - _LAST_BYTES))
        words = self._words.read().decode("utf-8", "replace").strip().splitlines()
        return f"exit code {code}" + (f": {words[-1]}" if words else "")

    def close(self) -> None:
        """End it and what it started, and wait for that."""
        with self._sending, contextlib.suppress(OSError):
            self._orders.close()
        self._wait()
        self._messages.close()
        self._words.close()

    def _wait(self) -> int:
        try:
            return self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.gone = self.gone or "it had to be killed"
            return self._process.wait()

    def _send(self, order: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(order).encode("ascii") + b"\n")
        # A helper that is gone says so by ending its messages, and that is where it is noticed.
        with self._sending, contextlib.suppress(BrokenPipeError):
            while line:
                line = line[self._orders.write(line) or 0 :]


class Crew:
    """The helpers of one engine, by what is special about their environment: each is made when first used."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], launch: Launch) -> None:
        self._command = command
        self._environ = environ
        self._launch = launch
        self._changed = threading.Condition()
        self._helpers: dict[Surroundings, Helper] = {}
        self._bell: tuple[int, int] | None = None

    def get(self, surroundings: Surroundings) -> Helper:
        """Return the helper with these variables on top of the environment. OSError if it cannot start."""
        with self._changed:
            if surroundings not in self._helpers:
                environ = {**self._environ, **dict(surroundings)}
                self._helpers[surroundings] = Helper(self._command, environ, self._launch)
                self._ring()
            return self._helpers[surroundings]

    def has_room(self, surroundings: Surroundings, limit: int) -> bool:
        """Say whether there is such a helper, or may be one more."""
        return surroundings in self._helpers or len(self._helpers) < limit

    def wait(self, timeout: float | None) -> list[Helper]:
        """Return the helpers that have something to say; none if none has within ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._helpers, _left(until))
                helpers = {helper.fileno(): helper for helper in self._helpers.values()}
                bell = self._bell
            if not helpers or bell is None:
                return []
            poll = select.poll()
            for descriptor in (*helpers, bell[0]):
                poll.register(descriptor, select.POLLIN)
            left = _left(until)
            found = [descriptor for descriptor, _ in poll.poll(None if left is None else left * 1000)]
            if bell[0] in found:
                os.read(bell[0], 1)
            if found != [bell[0]]:
                return [helpers[descriptor] for descriptor in found if descriptor in helpers]

    def drop(self, helper: Helper) -> None:
        """Forget a helper that is gone."""
        with self._changed:
            self._helpers = {name: each for name, each in self._helpers.items() if each is not helper}
        helper.close()

    def close(self) -> None:
        """End all helpers, and what they started."""
        with self._changed:
            helpers, self._helpers = list(self._helpers.values()), {}
            bell, self._bell = self._bell, None
        for helper in helpers:
            helper.close()
        for descriptor in bell or ():
            os.close(descriptor)

    def _ring(self) -> None:
        """Have whoever waits look at the helpers again."""
        if self._bell is None:
            self._bell = os.pipe()
        os.write(self._bell[1], b".")
        self._changed.notify_all()


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
