"""Secrets of steps that are processes of this machine: where they are, who sees them, and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import payload
from dispatch.engine import vault
from dispatch.engine.base import JobSpec, Reason
from dispatch.engine.process import StartMethod
from dispatch.errors import EngineError
from dispatch.testing.processes import Bench, lives, until

TOKEN = "tok-5f3a9-secret"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n"
STEPS = f"""
import os, sys, time
from pathlib import Path
from dispatch import step

PLACE = lambda: Path(os.environ["DISPATCH_SECRETS_DIR"])

@step("looks")
def looks() -> dict:
    place = PLACE()
    print("token", (place / "TOKEN").read_text(), flush=True)
    print((place / "KEY").read_text(), end="")
    return {{
        "place": str(place),
        "mode": oct(place.stat().st_mode & 0o777),
        "files": {{each.name: oct(each.stat().st_mode & 0o777) for each in place.iterdir()}},
        "whole": (place / "KEY").read_text() == {KEY!r},
        "variable": os.environ.get("TOKEN") == {TOKEN!r},
        "other": "KEY" in os.environ,
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2),
    }}

@step("raises")
def raises() -> int:
    raise ValueError("refused: " + os.environ["TOKEN"])

@step("waits")
def waits() -> int:
    (Path(os.environ["DISPATCH_OUTPUT_DIR"]).parent / "pid").write_text(str(os.getpid()))
    print("waiting with", os.environ["TOKEN"], flush=True)
    time.sleep(3600)
    return 0

@step("loud")
def loud() -> int:
    for n in range(200000):
        print(n, os.environ["TOKEN"])
    return 0

@step("plain")
def plain() -> list:
    return [os.environ.get("TOKEN"), os.environ.get("DISPATCH_SECRETS_DIR")]
"""


@pytest.fixture(params=StartMethod)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A project whose steps have secrets."""
    bench = Bench(tmp_path, payload.provide(tmp_path / "cache"), request.param)
    bench.write("steps.py", STEPS)
    yield bench
    bench.engine.close()
    assert left() == []


def left() -> list[Path]:
    """Directories of secrets of this user that are there."""
    return [*vault.SHARED_MEMORY.glob(f"dispatch-secrets-{os.geteuid()}-*")]


def secret(job: JobSpec) -> JobSpec:
    """The job with two secrets, one of them a variable, too."""
    return replace(job, secrets={"TOKEN": TOKEN, "KEY": KEY}, secret_variables=("TOKEN",))


def holds(directory: Path) -> list[Path]:
    """Files below a directory that hold a value."""
    files = [path for path in (directory / "attempts").rglob("*") if path.is_file()]
    return [path for path in files if TOKEN.encode() in path.read_bytes() or b"MIIEvQ" in path.read_bytes()]


def test_what_a_step_finds(bench: Bench) -> None:
    """Files that only the user may read, whole; a variable where it was asked for; no trace left."""
    ended = bench.run(secret(bench.python("looks")))
    assert ended.event.exit_code == 0, ended.log
    found = json.loads((ended.result / "data.json").read_text())
    assert not Path(found.pop("place")).exists()
    assert found == {
        "mode": "0o700",
        "files": {"TOKEN": "0o600", "KEY": "0o600"},
        "whole": True,
        "variable": True,
        "other": False,
        "descriptors": found["descriptors"],
    }
    assert len(found["descriptors"]) <= 1  # that of the listing itself
    assert ended.log == "token ***\n***\n"
    assert holds(bench.root) == []
    after = bench.run(bench.python("plain"))
    assert json.loads((after.result / "data.json").read_text()) == [None, None]


def test_command(bench: Bench) -> None:
    """A command has them, too, and they are masked in what it prints."""
    ended = bench.run(secret(bench.shell('cat "$DISPATCH_SECRETS_DIR/KEY"; echo "[$TOKEN]"; pwd')))
    assert ended.event.exit_code == 0
    assert ended.log.startswith("dispatch: phase source\ndispatch: phase run\n***\n[***]\n")
    assert holds(bench.root) == []


def test_exception(bench: Bench) -> None:
    """An exception that holds a value is recorded without it."""
    ended = bench.run(secret(bench.python("raises")))
    assert ended.outcome is not None and ended.outcome.exception is not None
    assert ended.outcome.exception["message"] == "refused: ***"
    assert "ValueError: refused: ***" in ended.log
    assert holds(bench.root) == []


def test_loud(bench: Bench) -> None:
    """Many lines pass through whole and in order."""
    ended = bench.run(secret(bench.python("loud")))
    assert ended.log == "".join(f"{n} ***\n" for n in range(200000))


def test_log_is_live_and_cancelled_jobs_leave_nothing(bench: Bench) -> None:
    """What is printed is in the log while the step runs; a step that is stopped loses its secrets."""
    job = secret(bench.python("waits"))
    handles = bench.engine.submit([job])
    assert bench.engine.next_event(60) is not None
    until(lambda: (job.attempt_dir / "out.log").read_bytes() == b"waiting with ***\n", "it never came")
    assert len(left()) == 1
    pid = int((job.attempt_dir / "output" / "pid").read_text())
    for name in ("cmdline", "environ"):
        words = Path(f"/proc/{pid}/{name}").read_bytes()
        assert name == "environ" or TOKEN.encode() not in words
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert TOKEN.encode() not in each.read_bytes()
    bench.engine.cancel(handles, 30)
    assert bench.end(job).event.reason is Reason.CANCELLED
    assert left() == []


def test_place() -> None:
    """Secrets go into memory; where this machine has no such place, nothing is started."""
    place = vault.place_of({}, lambda: "x")
    assert place == vault.SHARED_MEMORY / f"dispatch-secrets-{os.geteuid()}-x"
    environ = {vault.RUNTIME_DIR: str(vault.SHARED_MEMORY)}
    assert vault.place_of(environ, lambda: "x", Path("/proc/self")) == place
    with pytest.raises(EngineError, match="neither"):
        vault.place_of({}, shared=Path("/var/tmp"))


CLIENT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_process_secrets import Bench, payload, secret
bench = Bench(Path({root!r}), payload.provide(Path({root!r}) / "cache"))
bench.engine.submit([secret(bench.python("waits"))])
while True:
    bench.engine.next_event(60)
"""


def test_client_that_is_killed(tmp_path: Path) -> None:
    """A client that is killed leaves neither process nor secret."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "steps.py").write_text(STEPS)
    code = CLIENT.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    client = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    log = tmp_path / "attempts" / "waits-abc.1" / "out.log"
    try:
        until(lambda: log.exists() and b"waiting" in log.read_bytes(), "it never came")
        assert len(left()) == 1
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    until(lambda: left() == [], "it never came")
    pid = int((log.parent / "output" / "pid").read_text())
    until(lambda: not lives(pid), "it never came")


def test_helper_that_is_killed(tmp_path: Path) -> None:
    """When the helper is killed, the engine removes what it had stored."""
    bench = Bench(tmp_path, payload.provide(tmp_path / "cache"))
    bench.write("steps.py", STEPS)
    job = secret(bench.python("waits"))
    try:
        bench.engine.submit([job])
        until(lambda: (job.attempt_dir / "output" / "pid").exists(), "it never came")
        pid = int((job.attempt_dir / "output" / "pid").read_text())
        helper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(helper, signal.SIGKILL)
        assert bench.end(job).event.reason is Reason.LOST
        assert left() == []
    finally:
        bench.engine.close()
