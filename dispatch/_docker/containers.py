"""Containers of the engine: the verbs, and what goes in and comes out as values.

Owns the Engine API's container calls (https://docs.docker.com/reference/api/engine/): bodies, states, log
frames and events. docker-py is not used here: its overhead (2.5 ms a call against 0.2) and import time would
be felt on every step. Refuses to know what a container is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatch._docker.socket import CALL_TIMEOUT, ApiError, EngineSocket, Reply, Stream
from dispatch.errors import EngineError

if TYPE_CHECKING:
    from dispatch._docker.follow import LogFeed

STDOUT, STDERR = 1, 2
STATS_TIMEOUT = 10.0
# Else the engine's own default counts, and where that is small the beginning of a long log is thrown away.
LOG_LIMIT = "1000000g"
_FRAME_HEADER = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z")
STAMP_LENGTH = len("2006-01-02T15:04:05.000000000Z ")


@dataclass(frozen=True)
class Bind:
    """A path of the host shown at ``target``. A missing source is an error, it is never made."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class VolumeMount:
    """A named volume shown at ``target``, made with ``labels`` where there is none of that name.

    Without a name it is the container's own, and goes with it. Nothing that the image has at that place is
    copied into it.
    """

    name: str
    target: str
    read_only: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Its part of a create call."""
        return {
            "Type": "volume",
            **({"Source": self.name} if self.name else {}),
            "Target": self.target,
            "ReadOnly": self.read_only,
            "VolumeOptions": {"NoCopy": True, "Labels": dict(self.labels)},
        }


@dataclass(frozen=True)
class ContainerSpec:
    """What to create. ``command`` replaces the image's entrypoint and command; None keeps them, but for
    ``arguments``, which replace its command. Sizes in bytes; ``cpu_shares`` count where cpus are short.

    No health check, no restart, and no swap beyond the memory. With ``init`` a command that the image lacks
    is not a failed start but an end with 127. ``tmpfs`` are places in memory with their mount options. With
    ``stdin`` there is a standard input, which ends with the first connection to it; with ``terminal`` it is a
    terminal's. With ``auto_remove`` the engine removes the container when it ends.
    """

    image: str
    command: tuple[str, ...] | None
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    binds: tuple[Bind, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    network: str = "none"
    memory: int | None = None
    cpus: float | None = None
    shared_memory: int | None = None
    gpus: tuple[str, ...] = ()
    init: bool = True
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    stdin: bool = False
    terminal: bool = False
    auto_remove: bool = False
    arguments: tuple[str, ...] | None = None
    cpu_shares: int | None = None
    extra_hosts: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The body of the engine's create call."""
        binds = [
            {"Type": "bind", "Source": bind.source, "Target": bind.target, "ReadOnly": bind.read_only}
            for bind in self.binds
        ]
        host: dict[str, Any] = {
            "Mounts": [*binds, *(volume.body() for volume in self.volumes)],
            "NetworkMode": self.network,
            "Init": self.init,
            "AutoRemove": self.auto_remove,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_LIMIT}},
        }
        if self.memory is not None:
            host["Memory"] = host["MemorySwap"] = self.memory
        if self.cpus is not None:
            host["NanoCpus"] = round(self.cpus * 1e9)
        if self.cpu_shares is not None:
            host["CpuShares"] = self.cpu_shares
        if self.extra_hosts:
            host["ExtraHosts"] = list(self.extra_hosts)
        if self.shared_memory is not None:
            host["ShmSize"] = self.shared_memory
        if self.gpus:
            request = {"Driver": "nvidia", "DeviceIDs": list(self.gpus), "Capabilities": [["gpu"]]}
            host["DeviceRequests"] = [request]
        if self.tmpfs:
            host["Tmpfs"] = dict(self.tmpfs)
        stdin = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True} if self.stdin else {}
        return {
            **stdin,
            "Image": self.image,
            "Entrypoint": None if self.command is None else list(self.command),
            "Cmd": self._cmd(),
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Labels": dict(self.labels),
            "User": self.user,
            "WorkingDir": self.working_dir,
            "Tty": self.terminal,
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": host,
        }

    def _cmd(self) -> list[str] | None:
        if self.arguments is not None:
            return list(self.arguments)
        return None if self.command is None else []


@dataclass(frozen=True)
class ContainerState:
    """What an inspection says. ``status`` is the engine's word (created, running, exited, …).

    Times are seconds since the epoch; ``user`` is who runs in it, empty for root. ``oom_killed`` is also true
    when the kernel killed only a child of the container's process.
    """

    id: str
    name: str
    status: str
    exit_code: int
    oom_killed: bool
    error: str
    started: float | None
    finished: float | None
    labels: Mapping[str, str]
    mounts: Mapping[str, str]
    user: str = ""

    @property
    def ended(self) -> bool:
        """Whether the container ran and will not run again."""
        return self.status in ("exited", "dead")


@dataclass(frozen=True)
class ListedContainer:
    """One row of a listing. ``state`` is the engine's word, ``created`` a time in whole seconds.

    ``age`` is how many seconds ago that was by the engine's clock.
    """

    name: str
    labels: Mapping[str, str]
    id: str = ""
    state: str = ""
    created: int = 0
    age: float = 0.0


class LogFrame(NamedTuple):
    """One message of a log, mostly a line. ``stamp`` is the engine's time as text, empty if not asked for.

    A tuple, for there may be a hundred thousand in a second.
    """

    stream: int
    stamp: str
    data: bytes


@dataclass(frozen=True)
class ContainerEvent:
    """A change of a container by the engine's clock, and what its labels say.

    It is ``start``, ``die``, or ``oom``, when the kernel killed one of its processes for memory.
    """

    name: str
    action: str
    time: float
    labels: Mapping[str, str] = field(default_factory=dict)


def epoch(stamp: str) -> float:
    """Return the seconds since the epoch of one of the engine's times (RFC 3339, UTC, nanoseconds)."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        raise EngineError(f"Docker Engine: {stamp!r} is not a time in UTC")
    return datetime.fromisoformat(match[1] + "+00:00").timestamp() + float(match[2] or 0)


class Containers:
    """The engine's container calls. A container is named by its ID or its name.

    Every method raises :class:`ApiError` when the engine refuses and EngineError when it does not answer.
    """

    def __init__(self, engine: EngineSocket) -> None:
        self._engine = engine

    def create(self, spec: ContainerSpec) -> str:
        """Create a container and return its ID. A taken name is an ApiError with status 409."""
        query = {"name": spec.name} if spec.name else None
        reply: dict[str, Any] = self._engine.ask("POST", "/containers/create", query, spec.body()).json()
        return str(reply["Id"])

    def start(self, container: str) -> None:
        """Start a created container; when this fails the container stays ``created`` and no event comes."""
        self._engine.ask("POST", container_path(container, "/start"))

    def inspect(self, container: str) -> ContainerState | None:
        """Return the container's state, or None if there is no such container."""
        reply = self._engine.call("GET", container_path(container, "/json"))
        if reply.status == 404:
            return None
        if reply.status >= 400:
            raise ApiError(f"container {container}: it cannot be inspected", reply.status, _text(reply))
        return _state(reply.json())

    def wait(self, container: str, timeout: float | None = None) -> int:
        """Wait until the container has ended and return its exit code.

        :raises EngineError: when it has not ended after ``timeout`` seconds
        """
        answer: dict[str, Any] = self._engine.ask(
            "POST", container_path(container, "/wait"), timeout=timeout
        ).json()
        return int(answer["StatusCode"])

    def attach(self, container: str) -> Stream:
        """Connect to a container's stdin, stdout and stderr; before its start, so that nothing is lost."""
        query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
        return self._engine.hijack(container_path(container, "/attach"), query)

    def next_exit(self, container: str) -> Stream:
        """Begin to wait for the next end of a container that is not started yet; see :func:`exit_code`."""
        return self._engine.hijack(container_path(container, "/wait"), {"condition": "next-exit"})

    def ending(self, container: str) -> Stream:
        """Begin to wait until a started container runs no more: the answer's descriptor shows it, or that the
        engine went away. ApiError with status 404 where there is no such container.
        """
        return self._engine.hijack(container_path(container, "/wait"))

    def resize(self, container: str, rows: int, columns: int) -> None:
        """Give a running container's terminal its size; one that has ended is no error."""
        query = {"h": str(rows), "w": str(columns)}
        reply = self._engine.call("POST", container_path(container, "/resize"), query)
        if reply.status >= 400 and reply.status not in (404, 409, 500):
            raise ApiError(f"container {container}: its terminal has no size", reply.status, _text(reply))

    def kill(self, container: str, signal: str) -> None:
        """Send a signal; a container that is gone or does not run is no error."""
        reply = self._engine.call("POST", container_path(container, "/kill"), {"signal": signal})
        if reply.status >= 400 and reply.status not in (404, 409):
            raise ApiError(f"container {container}: {signal} cannot be sent", reply.status, _text(reply))

    def remove(self, container: str) -> None:
        """Remove the container and its anonymous volumes, killed if it runs; one that is gone is no error."""
        query = {"v": "1", "force": "1"}
        reply = self._engine.call("DELETE", container_path(container), query)
        # 409: another removal of the same container is under way.
        if reply.status >= 400 and reply.status not in (404, 409):
            raise ApiError(f"container {container}: it cannot be removed", reply.status, _text(reply))

    def labelled(
        self, label: str, value: str | None = None, states: Sequence[str] = ()
    ) -> list[ListedContainer]:
        """Return the containers that carry a label (with this value), of all states or only of ``states``."""
        filters = {"label": [label if value is None else f"{label}={value}"]}
        if states:
            filters["status"] = list(states)
        reply = self._engine.ask("GET", "/containers/json", {"all": "1", "filters": json.dumps(filters)})
        # Every answer says what time it is there. Rows of an engine that does not would be of no age.
        date = reply.headers.get("date")
        now = parsedate_to_datetime(date).timestamp() if date else 0.0
        rows: list[dict[str, Any]] = reply.json()
        return [_row(row, now) for row in rows]

    def logs(self, container: str, stamps: bool = False, last: int | None = None) -> Iterator[LogFrame]:
        """Yield the log so far, or its ``last`` frames, in the order in which the engine kept it."""
        query = {"stdout": "1", "stderr": "1", "timestamps": "1" if stamps else "0"}
        if last is not None:
            query["tail"] = str(last)
        stream = self._engine.open(container_path(container, "/logs"), query)
        try:
            while len(header := stream.read(_FRAME_HEADER)) == _FRAME_HEADER:
                data = stream.read(int.from_bytes(header[4:], "big"))
                stamp = data[: STAMP_LENGTH - 1].decode("ascii", "replace") if stamps else ""
                yield LogFrame(header[0], stamp, data[STAMP_LENGTH:] if stamps else data)
        finally:
            stream.close()

    def follow(self, container: str) -> LogFeed:
        """Ask for the log from its beginning, and all that will be added; one that is not there is empty."""
        from dispatch._docker.follow import LogFeed

        query = {"follow": "1", "stdout": "1", "stderr": "1", "timestamps": "1"}
        return LogFeed(self._engine.connect("GET", container_path(container, "/logs"), query))

    def stats(self, container: str) -> Mapping[str, Any] | None:
        """Return what the engine measures of a container now, or None if there is no such container."""
        query = {"stream": "false", "one-shot": "true"}
        reply = self._engine.call("GET", container_path(container, "/stats"), query, timeout=STATS_TIMEOUT)
        if reply.status == 404:
            return None
        if reply.status >= 400:
            raise ApiError(f"container {container}: it cannot be measured", reply.status, _text(reply))
        answer: Mapping[str, Any] = reply.json()
        return answer

    def attach_input(self, container: str) -> Stream:
        """Connect to the standard input of a container: created with ``stdin``, and not started yet."""
        return self._engine.hijack(
            container_path(container, "/attach"), {"stream": "1", "stdin": "1"}, CALL_TIMEOUT
        )

    def events(self, label: str, since: float) -> ContainerEvents:
        """Subscribe to what happens to the containers with a label (see ContainerEvent), since a time.

        The engine remembers the last 256 events only.
        """
        filters = {"type": ["container"], "event": ["start", "die", "oom"], "label": [label]}
        query = {"since": f"{since:.9f}", "filters": json.dumps(filters)}
        return ContainerEvents(self._engine.open("/events", query, timeout=None))


def exit_code(waiting: Stream) -> int:
    """Return the exit code that :meth:`Containers.next_exit` waits for, once the container has ended."""
    try:
        return int(json.loads(waiting.read())["StatusCode"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("Docker Engine: it did not say how the container ended") from error
    finally:
        waiting.close()


class ContainerEvents:
    """A subscription; iteration ends when the engine goes away or another thread closes it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[ContainerEvent]:
        while (line := self._stream.readline()).endswith(b"\n"):
            message: dict[str, Any] = json.loads(line)
            attributes: dict[str, str] = message["Actor"]["Attributes"]
            # Among the attributes are the labels.
            yield ContainerEvent(attributes["name"], message["Action"], message["timeNano"] / 1e9, attributes)

    def close(self) -> None:
        """End the subscription."""
        self._stream.close()


def container_path(container: str, verb: str = "") -> str:
    """The address of a container's call. Names may come from records on disk, so they are checked."""
    if not _NAME.fullmatch(container):
        raise EngineError(f"container {container!r}: this is not the name of a container")
    return f"/containers/{container}{verb}"


def _row(row: Mapping[str, Any], now: float) -> ListedContainer:
    created = int(row.get("Created") or 0)
    return ListedContainer(
        name=row["Names"][0].lstrip("/"),
        labels=row.get("Labels") or {},
        id=str(row.get("Id") or ""),
        state=str(row.get("State") or ""),
        created=created,
        age=max(0.0, now - created),
    )


def _state(inspection: Mapping[str, Any]) -> ContainerState:
    state: Mapping[str, Any] = inspection["State"]
    return ContainerState(
        id=inspection["Id"],
        name=inspection["Name"].lstrip("/"),
        status=state["Status"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        error=state.get("Error") or "",
        started=_time(state["StartedAt"]),
        finished=_time(state["FinishedAt"]),
        labels=inspection["Config"].get("Labels") or {},
        mounts={mount["Destination"]: mount["Source"] for mount in inspection.get("Mounts") or ()},
        user=inspection["Config"].get("User") or "",
    )


def _time(stamp: str) -> float | None:
    """The engine writes the year 1 for "never"."""
    return None if stamp.startswith("0001-") else epoch(stamp)


def _text(reply: Reply) -> str:
    return reply.body.decode("utf-8", "replace").strip()
