"""What a run on Beaker costs its server, and how soon it sees what happens there, counted by the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import CHECKOUT, DISPATCH, ENVIRON, INSIDE, RUNS, Row, milliseconds

from dispatch.beakerd.layout import Endpoint, Layout
from dispatch.engine.base import JobSpec, JobState, Network
from dispatch.engine.beaker import BeakerEngine
from dispatch.environment import RegistryDigest
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_graph import layers
from dispatch.testing.busybox import REFERENCE
from dispatch.workspace.beaker.workspace import BeakerWorkspace

TICK = 1.0
WATCHED = 20.0
RUNNING = (1, 50, 200)
ENDS = 20
STEPS = 50
LIMIT = 120.0
URL = "beaker://ai2/my-workspace"
# A process reads once which authority its gRPC trusts, so all servers have the same.
_AUTHORITY = Path(tempfile.mkdtemp(prefix="bench-authority-"))


class Server:
    """A server in a process of its own, whose jobs begin and end when we say so."""

    def __init__(self, root: Path, authority: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(INSIDE / "beaker_by_hand.py"), str(root), str(authority)],
            env={**ENVIRON, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = self._answer()
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = told["ca"]
        self.config: str = told["config"]
        self.beaker: Any = LocalBeaker(
            None,
            Layout(Path(told["root"])),
            Endpoint(**told["endpoint"]),
            [],  # type: ignore[arg-type]
        )
        self.faults = Faults(self.beaker)

    def say(self, command: str) -> Any:
        """Have a command carried out."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    @contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """The requests that come meanwhile, by protocol: rules that do nothing but count."""
        counted: dict[str, int] = {}
        rules = {name: self.faults.add(f"{name}:*", "latency") for name in ("rpc", "rest")}
        yield counted
        for name, rule in rules.items():
            counted[name] = self.faults.hits(rule)
            self.faults.remove(rule)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def serving() -> Iterator[tuple[Server, Path]]:
    """A server, and a place for what its clients keep."""
    place = Path(tempfile.mkdtemp(prefix="bench-steps-"))
    server = Server(place / "beaker", _AUTHORITY)
    try:
        yield server, place
    finally:
        server.close()
        shutil.rmtree(place, ignore_errors=True)


def rows() -> list[Row]:
    """All of it."""
    return [*polling(), *submitting(), *cached()]


def polling() -> list[Row]:
    """Requests a tick with so many running, and how long after its end a job is seen to have ended."""
    found = []
    for count in RUNNING:
        with serving() as (server, place):
            door = door_of(server.beaker)
            engine = BeakerEngine(
                door, origin="bench", attempts=place / "attempts", cache=place / "cache", tick=TICK
            )
            engine.submit([job(place, number) for number in range(count)])
            begin(server, count)
            until_running(engine, count)
            time.sleep(2 * TICK)
            with server.counting() as counted:
                time.sleep(WATCHED)
            a_tick = sum(counted.values()) / (WATCHED / TICK)
            asked = f"≤ {2 + -(-count // 50)}"
            found.append(Row(f"requests a tick of {TICK:g} s, {count} running", f"{a_tick:.2f}", asked))
            if count >= ENDS:
                found.append(seen(server, engine, count))
            engine.close()
            door.close()
    return found


def seen(server: Server, engine: BeakerEngine, count: int) -> Row:
    """How long after a job has ended the engine says so; when it ends has nothing to do with ticks."""
    late = []
    for number in range(ENDS):
        ended = server.say("end")
        while (event := engine.next_event(LIMIT)) is not None and event.state is not JobState.EXITED:
            pass
        assert event is not None
        late.append(time.time() - ended)
        time.sleep(0.137 * (number % 7))
    worst = max(late)
    return Row(
        f"end of a job → seen, {count} running",
        f"median {statistics.median(late):.2f} s, worst of {ENDS} {worst:.2f} s",
        "≤ 2 s",
    )


def job(place: Path, number: int) -> JobSpec:
    """A job that brings nothing."""
    key = f"Shell-bench{number}.1"
    attempt = place / "attempts" / key
    (attempt / "output" / "result").mkdir(parents=True)
    return JobSpec(
        key=key,
        run="bench",
        step=f"s{number}",
        attempt=1,
        image=RegistryDigest(REFERENCE),
        command=("/bin/true",),
        attempt_dir=attempt,
        working_dir="/",
        network=Network.NONE,
    )


def begin(server: Server, count: int) -> None:
    """Have so many jobs begin, as they come."""
    begun, given_up = 0, time.monotonic() + LIMIT
    while begun < count:
        begun += server.say("begin")
        assert time.monotonic() < given_up, f"{begun} of {count} jobs came"
        time.sleep(0.05)


def until_running(engine: BeakerEngine, count: int) -> None:
    """Wait until the engine has seen that they run."""
    running: set[str] = set()
    while len(running) < count:
        event = engine.next_event(LIMIT)
        assert event is not None, f"{len(running)} of {count} are seen to run"
        assert event.state is JobState.RUNNING, event
        running.add(event.key)


def submitting() -> list[Row]:
    """How far apart the experiments of one run are made, claims and all: a slope over many steps."""
    spent = []
    for _ in range(max(3, RUNS // 2)):
        with serving() as (server, place):
            project = write(place / "project", STEPS, 1, on_beaker=True)
            process = subprocess.Popen(
                [DISPATCH, "run", "x.json"],
                cwd=project,
                env=environ(server, place / "cache"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            given_up = time.monotonic() + LIMIT
            while len(made := server.say("created")) < STEPS:
                assert time.monotonic() < given_up and process.poll() is None, f"{len(made)} experiments"
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            spent.append((made[-1] - made[0]) / (STEPS - 1))
    return [Row(f"submitting, a step of {STEPS}", milliseconds(statistics.median(spent)), "≤ 50 ms")]


def cached() -> list[Row]:
    """A graph whose results are all there: seen for the first time on a machine, and again."""
    with serving() as (server, place):
        project = write(place / "project", 10, STEPS // 10, on_beaker=False)
        command = [DISPATCH, "run", "x.json"]
        made = subprocess.run(
            [*command, "--json"],
            cwd=project,
            env=environ(server, place / "maker"),
            check=True,
            capture_output=True,
        )
        ids = [step["id"] for step in json.loads(made.stdout)["steps"]]
        first, again, asked, looked = [], [], [], []
        for number in range(max(3, RUNS // 2)):
            # Another cache is another machine.
            env = environ(server, place / f"cache{number}")
            for spent, requests in ((first, asked), (again, looked)):
                with server.counting() as counted:
                    began = time.perf_counter()
                    subprocess.run(command, cwd=project, env=env, check=True, capture_output=True)
                    spent.append(time.perf_counter() - began)
                requests.append(sum(counted.values()) / STEPS)
        local = statistics.median(looking(server, place / "cache0", ids) for _ in range(RUNS))
    what = f"{STEPS} steps, all cached"
    return [
        Row(
            f"{what}: `dispatch run`, first on a machine",
            f"{statistics.median(first):.2f} s, {statistics.median(asked):.2f} requests a step",
            "≤ 3 s, ≤ 2",
        ),
        Row(
            f"{what}: `dispatch run` again",
            f"{statistics.median(again):.2f} s, {statistics.median(looked):.2f} requests a step",
        ),
        Row(f"{what}: looked up from the local cache", milliseconds(local), "≤ 0.2 s"),
    ]


def looking(server: Server, cache: Path, ids: list[str]) -> float:
    workspace = BeakerWorkspace(
        URL.partition("://")[2], cache=cache / "dispatch" / "beaker", **options_of(server.beaker)
    )
    try:
        assert workspace.site.door.account.workspace_id
        began = time.perf_counter()
        assert set(workspace.results_of(ids)) == set(ids)
        return time.perf_counter() - began
    finally:
        workspace.close()


def environ(server: Server, cache: Path) -> dict[str, str]:
    """The environment of a client whose machine keeps things there."""
    dropped = {name: value for name, value in ENVIRON.items() if not name.startswith("BEAKER_")}
    return {
        **dropped,
        "BEAKER_CONFIG": server.config,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
        "XDG_CACHE_HOME": str(cache),
    }


def write(root: Path, width: int, depth: int, *, on_beaker: bool) -> Path:
    """A project with a graph of steps, for Beaker or for processes of this machine."""
    root.mkdir(parents=True)
    executor: dict[str, Any] = {"type": "local", "parallelism": 4}
    if on_beaker:
        clusters = ["ai2/general-cirrascale"]
        executor = {"type": "beaker", "docker_image": REFERENCE, "clusters": clusters, "allow_dirty": True}
    settings = {"workspace": URL, "executor": executor}
    (root / "dispatch.yml").write_text(json.dumps(settings))
    steps = {
        name: {
            "type": "shell",
            "inputs": {need: {"type": "ref", "ref": need} for need in needs},
            "command": f'echo {name} > "$DISPATCH_OUTPUT_DIR"/value',
        }
        for name, needs in layers(width, depth).needs.items()
    }
    (root / "x.json").write_text(json.dumps({"steps": steps}))
    for words in (("init", "-q", "--template="), ("add", "-A"), ("commit", "-q", "-m", "one")):
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        subprocess.run(["git", *identity, *words], cwd=root, check=True)
    return root
