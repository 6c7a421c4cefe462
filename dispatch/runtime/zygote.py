"""The process that starts the steps of one client on its own machine, watches them, and outlives none of it.

Owns those processes: each in a session of its own, writing into its log. A Python step is forked from this
process, which has the runtime loaded (and ``preload``'s modules), or is a fresh interpreter; any other
command is executed. When the client goes away, however that is, the pipe from it ends, and everything that
was started is killed. A process that leaves its step's group stays below this one and is killed with it.

Lines of JSON come in on standard input: ``{"start": KEY, "command", "env", "cwd", "log", "fork"}``, with
``"secrets": {"place", "values"}`` where there are any (see ``relay``), and ``{"stop": KEY, "grace"}``. Out on
standard output go ``{"ready": true}``, then for each job either ``{"refused": KEY, "message"}`` or
``{"running": KEY, "pid", "time"}`` and ``{"exited": KEY, "code", "time", "memory"}``: a code above 128 is
that of a signal, memory is in bytes.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH123

from __future__ import annotations

import encodings.ascii
import errno
import importlib
import json
import os
import select
import signal
import sys
import time
import warnings

from dispatch.formats import choice, reading, storing
from dispatch.runtime import procs, run
from dispatch.runtime.preload import Preloaded, Trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

    from dispatch.runtime.relay import Relay

# Nearly every step needs these in its course: they are loaded before steps are forked.
COMMON = (choice, reading, storing, encodings.ascii, importlib, warnings)

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SIGNALLED = 128
# How long a killed process may take to vanish before its step's end is told all the same.
LINGER = 5.0
_LINGER_POLL = 0.02
_BLOCK = 1 << 16


class Begun:
    """What a forked process has to do: the step of a job file; ``imported`` is for the runtime to call."""

    def __init__(self, job_file: str, imported: Callable[[], None] | None) -> None:
        self.job_file = job_file
        self.imported = imported


class Child:
    """A step's process. ``code`` is None while it runs; ``deadline`` is when it is killed, or given up."""

    def __init__(
        self, key: str, modules: tuple[str, ...] = (), pipe: int = -1, relay: Relay | None = None
    ) -> None:
        self.key = key
        self.relay = relay
        self.modules = modules
        self.pipe = pipe
        self.deadline: float | None = None
        self.code: int | None = None
        self.ended = 0.0
        self.memory = 0


def main(script: str) -> NoReturn:
    """Serve until the client goes away. A forked process comes back to here, and runs its step."""
    begun = Zygote().serve()
    sys.argv[:] = [script, "run", begun.job_file]
    run.main(begun.job_file, begun.imported)


class Zygote:
    """See the module. Takes over standard input and output when it is made."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._commands, self._messages = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nothing, descriptor)
        os.close(nothing)
        os.set_blocking(self._messages, False)
        self._woken, self._wake = os.pipe()
        for descriptor in (self._woken, self._wake):
            os.set_blocking(descriptor, False)
        # As it was before any module was imported: what is executed is given this.
        self._environ = dict(os.environ)
        self._prctl = procs.prctl()
        self._preloaded = Preloaded()
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        self._relays: dict[int, Relay] = {}
        self._incoming = b""
        self._outgoing = b""

    def serve(self) -> Begun:
        """Do what the client says. Returns in forked processes only."""
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._tell({"ready": True})
        poll = self._poll
        poll.register(self._commands, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            if self._outgoing:
                poll.register(self._messages, select.POLLOUT)
            for descriptor, _ in poll.poll(self._patience()):
                if descriptor == self._messages:
                    poll.unregister(self._messages)
                elif descriptor == self._woken:
                    os.read(self._woken, _BLOCK)
                elif descriptor in self._relays:
                    self._pump(self._relays[descriptor])
            self._flush()
            self._reap()
            self._settle()
            for order in self._orders():
                begun = self._obey(order)
                if begun is not None:
                    return begun

    # The client.

    def _orders(self) -> Iterator[dict[str, Any]]:
        """The orders that have come in."""
        if not procs.is_readable(self._commands):
            return
        block = os.read(self._commands, _BLOCK)
        if not block:
            self._end()
        *lines, self._incoming = (self._incoming + block).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def _obey(self, order: dict[str, Any]) -> Begun | None:
        if "stop" in order:
            self._stop(order["stop"], order["grace"])
            return None
        try:
            return self._start(order)
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            self._tell({"refused": order["start"], "message": f"{what}{error.strerror}"})
            return None

    def _tell(self, message: dict[str, Any]) -> None:
        self._outgoing += json.dumps(message).encode("ascii") + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[os.write(self._messages, self._outgoing) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._end()

    # Starting.

    def _start(self, order: dict[str, Any]) -> Begun | None:
        """Start a job; OSError where the machine refuses. In the forked process, says what it has to do."""
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        relay = None
        try:
            try:
                # Where the directory has vanished, nothing is started.
                os.chdir(order["cwd"])
            except OSError as error:
                raise OSError(error.errno, f"the working directory is not there: {error.strerror}") from error
            if "secrets" in order:
                relay = self._relay(order["secrets"], log)
            if order["fork"]:
                job_file = order["command"][-1]
                modules, paths = _imports_of(job_file)
                if self._preloaded.suits(paths):
                    self._preload(modules, paths, log)
                    if not self._preloaded.spoilt:
                        return self._fork(order, log, modules, job_file, relay)
            self._execute(order, log, relay)
            return None
        except OSError:
            if relay is not None:
                self._close_relay(relay)
            raise
        finally:
            os.close(log)
            if relay is not None:
                relay.release()

    def _relay(self, secrets: dict[str, Any], log: int) -> Relay:
        from dispatch.runtime.relay import Relay

        relay = Relay(secrets, log)
        self._relays[relay.source] = relay
        return relay

    def _pump(self, relay: Relay) -> None:
        if not relay.pump():
            relay.watched = False
            self._poll.unregister(relay.source)

    def _close_relay(self, relay: Relay) -> None:
        del self._relays[relay.source]
        if relay.watched:
            self._poll.unregister(relay.source)
        relay.finish()

    def _preload(self, modules: tuple[str, ...], paths: list[str], log: int) -> None:
        """Import what may be imported here; what it prints is in the log of the step that caused it."""
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            self._preloaded.load(modules, paths)
            run.flush()
        finally:
            for descriptor, former in zip((1, 2), kept):
                os.dup2(former, descriptor)
                os.close(former)

    def _fork(
        self,
        order: dict[str, Any],
        log: int,
        modules: tuple[str, ...],
        job_file: str,
        relay: Relay | None,
    ) -> Begun | None:
        pipe = report = -1
        if self._preloaded.is_new(modules):
            pipe, report = os.pipe()
        pid = os.fork()
        if pid != 0:
            if report >= 0:
                os.close(report)
            self._begin(pid, Child(order["start"], modules, pipe, relay))
            return None
        self._become(relay.target if relay is not None else log)
        if pipe >= 0:
            os.close(pipe)
        os.environ.update(order["env"])
        self._preloaded.settle(modules)
        return Begun(job_file, Trial(report) if report >= 0 else None)

    def _execute(self, order: dict[str, Any], log: int, relay: Relay | None) -> None:
        command = order["command"]
        environ = {**self._environ, **order["env"]}
        pipe, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(relay.target if relay is not None else log)
                for number in (signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                os.execve(command[0], command, environ)
            except OSError as error:
                os.write(report, json.dumps([error.errno, error.strerror]).encode("ascii"))
            finally:
                os._exit(SIGNALLED - 1)
        os.close(report)
        refusal = os.read(pipe, _BLOCK)
        os.close(pipe)
        if refusal:
            os.waitpid(pid, 0)
            raise OSError(*json.loads(refusal), command[0])
        self._begin(pid, Child(order["start"], relay=relay))

    def _begin(self, pid: int, child: Child) -> None:
        self._children[pid] = child
        if child.relay is not None:
            self._poll.register(child.relay.source, select.POLLIN)
            child.relay.watched = True
        self._tell({"running": child.key, "pid": pid, "time": time.time()})

    def _become(self, log: int) -> None:
        """In the new process: leave behind what is the zygote's, and be a step's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(SIGNALLED + signal.SIGKILL)
        ours = [child.pipe for child in self._children.values() if child.pipe >= 0]
        for descriptor in (self._commands, self._messages, self._woken, self._wake, *ours):
            os.close(descriptor)
        for relay in self._relays.values():
            relay.forsake()
        os.dup2(log, 1)
        os.dup2(log, 2)

    # Ending.

    def _stop(self, key: str, grace: float) -> None:
        """Ask a step to end. Only its first process is asked: it knows what else there is."""
        for pid, child in self._children.items():
            if child.key == key and child.code is None:
                procs.kill(os.kill, pid, signal.SIGTERM)
                due = time.monotonic() + grace
                child.deadline = due if child.deadline is None else min(due, child.deadline)

    def _reap(self) -> None:
        """Take note of processes that ended. A step's first process takes the rest of its group along.

        The group is killed while its dead leader still holds its number, which nobody else can have then.
        """
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = self._children.get(found.si_pid)
            if child is not None and child.code is None:
                child.ended = time.time()
                procs.kill(os.killpg, found.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(found.si_pid, 0)
            if child is not None and child.code is None:
                code = os.WTERMSIG(status) + SIGNALLED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                child.code, child.memory = code, usage.ru_maxrss * 1024
                child.deadline = time.monotonic() + LINGER

    def _settle(self) -> None:
        """Kill what is overdue, and tell the ends of those steps of which nothing is left."""
        now = time.monotonic()
        for pid, child in list(self._children.items()):
            overdue = child.deadline is not None and child.deadline <= now
            if child.code is not None:
                if not procs.has_group(pid) or overdue:
                    del self._children[pid]
                    self._sweep(pid)
                    self._tell_end(child)
            elif overdue:
                child.deadline = None
                procs.kill(os.killpg, pid, signal.SIGKILL)
                procs.kill(os.kill, pid, signal.SIGKILL)
        if not self._children:
            self._sweep()

    def _tell_end(self, child: Child) -> None:
        if child.pipe >= 0:
            self._preloaded.note(child.modules, procs.rest(child.pipe))
            os.close(child.pipe)
        if child.relay is not None:
            self._close_relay(child.relay)
        self._tell({"exited": child.key, "code": child.code, "time": child.ended, "memory": child.memory})

    def _sweep(self, ended: int = 0) -> None:
        """Kill processes that an ended step left outside its group.

        Those of its session are known to be its own. Those that left the session, too, may be any step's:
        they go when no step runs.
        """
        for pid in self._adopted():
            if not self._children or procs.session(pid) == ended:
                procs.kill(os.kill, pid, signal.SIGKILL)

    def _adopted(self) -> list[int]:
        """Our children that no order started; where the kernel does not list them, only when no step runs."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []
        found = procs.children(self._pid, thorough=not self._children)
        return [pid for pid in found if pid not in self._children]

    def _end(self) -> NoReturn:
        """The client is gone: kill everything, and whatever that sets free, and end."""
        for pid in self._children:
            procs.kill(os.killpg, pid, signal.SIGKILL)
            procs.kill(os.kill, pid, signal.SIGKILL)
        for relay in [*self._relays.values()]:
            self._close_relay(relay)
        self._children.clear()
        given_up = time.monotonic() + LINGER
        while time.monotonic() < given_up:
            self._sweep()
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(_LINGER_POLL)
            except ChildProcessError:
                break
        os._exit(0)

    def _patience(self) -> int | None:
        """Milliseconds until something is due by itself; a group that lingers is looked at again soon."""
        if any(child.code is not None for child in self._children.values()):
            return int(_LINGER_POLL * 1000)
        due = [child.deadline for child in self._children.values() if child.deadline is not None]
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None


def _ignore(number: int, frame: object) -> None:
    """Without a handler, no signal would wake the loop."""


def _imports_of(job_file: str) -> tuple[tuple[str, ...], list[str]]:
    """The modules that a job's step needs, and its import paths; OSError where the file cannot be read."""
    try:
        with open(job_file, encoding="utf-8") as file:
            job = json.load(file)
        step = job["step"]
        return (step["module"], *step.get("modules", ())), job["paths"]
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(errno.EINVAL, "is no job of a Python step", job_file) from error
