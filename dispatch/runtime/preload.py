"""Modules imported once for all the steps that a process forks, where that makes no difference to them.

Owns which modules those are: the one that defines a step, with any that its arguments need. The first step
that needs them imports them by itself, and says what that left behind beside memory: threads, processes,
sockets, pipes, devices, signal handlers and the working directory are not forked, or not shared with good
effect. Only modules that left none of these are imported here, when a second step needs them. So what hangs,
crashes or fails does that in a step's own process.

A generator of random numbers that was seeded by the import goes on from that seed in every step, as it would
if each had imported the module; any other is seeded anew.
"""

# ruff: noqa: PTH109, PTH208

from __future__ import annotations

import _thread
import json
import os
import signal
import stat
import sys

from dispatch.runtime.imports import open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_PLAIN = (stat.S_IFREG, stat.S_IFDIR)
# The global generators of random numbers by module: how their state is read and put back.
_GENERATORS = {"random": ("getstate", "setstate"), "numpy.random": ("get_state", "set_state")}


class Trial:
    """The first import of some modules, in a step's own process. Made before; called when it is done."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._handlers = _handlers()
        self._files = set(_open_files())
        self._directory = os.getcwd()

    def __call__(self) -> None:
        """Say into the pipe how it was."""
        clean = not (_has_threads() or _has_children() or self._has_changed())
        report = {"clean": clean, "generators": {name: mark for name, (mark, _) in _generators().items()}}
        os.write(self._pipe, json.dumps(report).encode("ascii"))
        os.close(self._pipe)

    def _has_changed(self) -> bool:
        opened = (found for found in _open_files() if found not in self._files)
        unshared = any(kind not in _PLAIN for _, kind in opened)
        return unshared or _handlers() != self._handlers or os.getcwd() != self._directory


class Preloaded:
    """The modules imported here, and what is known of others."""

    def __init__(self) -> None:
        self.spoilt = False
        self._paths: list[str] | None = None
        self._tried: dict[tuple[str, ...], dict[str, Any]] = {}
        self._loaded: dict[tuple[str, ...], dict[str, Any]] = {}

    def suits(self, paths: Sequence[str]) -> bool:
        """Say whether a step with these import paths may be forked from this process."""
        return not self.spoilt and self._paths in (None, list(paths))

    def is_new(self, modules: tuple[str, ...]) -> bool:
        """Say whether nothing is known of these modules."""
        return modules not in self._tried

    def note(self, modules: tuple[str, ...], report: bytes) -> None:
        """Keep what a trial said; nothing, if it never came to that."""
        if report:
            self._tried[modules] = json.loads(report)

    def load(self, modules: tuple[str, ...], paths: Sequence[str]) -> None:
        """Import modules whose trial was clean, unless that was done."""
        if modules in self._loaded or not self._tried.get(modules, {}).get("clean"):
            return
        if self._paths is None:
            self._paths = list(paths)
            open_source(paths)
        try:
            for module in modules:
                __import__(module)
        except BaseException:
            # It was fine in a step's own process, so it depends on something there: each imports it again.
            self._tried[modules] = {}
            return
        self.spoilt = _has_threads()
        known = self._tried[modules]["generators"]
        self._loaded[modules] = {
            name: state for name, (mark, state) in _generators().items() if known.get(name) == mark
        }

    def settle(self, modules: tuple[str, ...]) -> None:
        """In a forked process: give its generators of random numbers the state that is theirs."""
        seeded = self._loaded.get(modules, {})
        for name in _generators():
            generator: Any = sys.modules[name]
            if name in seeded:
                getattr(generator, _GENERATORS[name][1])(seeded[name])
            else:
                generator.seed()


def _has_threads() -> bool:
    """Whether a thread of Python's runs beside this one. Those of numeric libraries mind forks themselves."""
    return _thread._count() > 0


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _handlers() -> list[Any]:
    # TERM is the runtime's own.
    return [signal.getsignal(each) for each in signal.valid_signals() - {signal.SIGTERM}]


def _open_files() -> list[tuple[int, int]]:
    """The open descriptors with the kind of file behind each."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), stat.S_IFMT(os.fstat(int(name)).st_mode)))
        except OSError:
            # The one by which the directory itself was read.
            continue
    return found


def _generators() -> dict[str, tuple[int, Any]]:
    """The global generators that are loaded: a mark that tells states apart, and the state."""
    found: dict[str, tuple[int, Any]] = {}
    for name, (read, _) in _GENERATORS.items():
        module = sys.modules.get(name)
        try:
            state = getattr(module, read)()
            found[name] = (_mark(state), state)
        except Exception:
            # It is not loaded, or a module of the user's has the name.
            continue
    return found


def _mark(state: Any) -> int:
    """The same number for the same state in processes forked from one."""
    return hash(tuple(part.tobytes() if hasattr(part, "tobytes") else part for part in state))
