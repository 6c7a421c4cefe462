"""Steps as real processes of this machine: how they begin, what they find, how they end, and what is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import payload
from dispatch.engine.base import Event, JobSpec, JobState, Reason
from dispatch.engine.process import HELPERS, ProcessEngine, StartMethod
from dispatch.errors import EngineError
from dispatch.runtime.outcome import OutcomeState
from dispatch.testing.processes import LIMIT, Bench, Ended, lives, until

MANY = max(60, int(1000 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
STEPS = """
import ctypes, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from dispatch import step

OUT = lambda: Path(os.environ["DISPATCH_OUTPUT_DIR"]).parent

@step("good")
def good() -> int:
    print("to stdout"); print("to stderr", file=sys.stderr)
    return 42

@step("raises")
def raises() -> int:
    raise KeyError("lost")

@step("exits")
def exits() -> int:
    sys.exit(3)

@step("leaves")
def leaves() -> int:
    os._exit(5)

@step("faults")
def faults() -> int:
    ctypes.string_at(0)
    return 0

@step("killed")
def killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0

@step("forks")
def forks() -> int:
    child = os.fork()
    if child == 0:
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def _double(n):
    return 2 * n

@step("pools")
def pools() -> list:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(_double, range(3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return found + pool.map(_double, range(3))

@step("loud")
def loud() -> int:
    for _ in range(64):
        print("x" * 16383)
    return 0

@step("waits")
def waits() -> int:
    (OUT() / "pid").write_text(str(os.getpid()))
    time.sleep(3600)
    return 0

@step("deaf")
def deaf() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    (OUT() / "pid").write_text(str(child.pid))
    child.wait()
    return 0

@step("litters")
def litters() -> int:
    child = subprocess.Popen(["/bin/sleep", "3600"])
    away = subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True)
    return [child.pid, away.pid]

@step("asks")
def asks() -> str:
    return sys.stdin.read()

@step("tells")
def tells() -> dict:
    return {
        "cwd": os.getcwd(),
        "files": sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2),
        "leader": os.getsid(0) == os.getpid() == os.getpgid(0),
        "argv": sys.argv[1:2],
        "main": sys.modules["__main__"].__name__,
        "mine": os.environ.get("MINE"),
        "home": os.environ.get("HOME"),
        "name": os.environ["DISPATCH_STEP_NAME"],
        "path": [each for each in sys.path if each.endswith("project")],
        "children": os.environ["PYTHONPATH"].count("project"),
        "signals": [
            signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        ],
        "client": [name for name in sys.modules if name.startswith("dispatch.engine")],
    }
"""


@pytest.fixture(params=StartMethod)
def bench(tmp_path: Path, runtime: payload.Runtime, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A project with STEPS, once for each way to start them."""
    made = Bench(tmp_path, runtime, request.param)
    made.write("steps.py", STEPS)
    yield made
    made.close()


@pytest.fixture
def forking(tmp_path: Path, runtime: payload.Runtime) -> Iterator[Bench]:
    """A project without steps, whose engine forks."""
    made = Bench(tmp_path, runtime)
    yield made
    made.close()


def value(ended: Ended) -> object:
    """The result of a step, which must have one."""
    assert ended.outcome is not None and ended.outcome.state is OutcomeState.COMPLETED, ended.log
    (path,) = ended.result.iterdir()
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


def pid_in(job: JobSpec) -> int:
    """The number that a job has written down; it is waited for."""
    path = job.attempt_dir / "output" / "pid"
    until(lambda: path.exists() and path.read_text() != "", f"{path} is not written")
    return int(path.read_text())


def test_success(bench: Bench) -> None:
    """A step leaves result, outcome and log, the second time as the first."""
    for ended in bench.runs(3, "good"):
        assert (value(ended), ended.event.exit_code, ended.event.reason) == (42, 0, Reason.STEP)
        assert ended.log.splitlines() == ["to stdout", "to stderr"]


@pytest.mark.parametrize(
    ("step", "exit_code", "state", "words"),
    [
        ("raises", 1, OutcomeState.FAILED, "KeyError: 'lost'"),
        ("exits", 1, OutcomeState.FAILED, "the step called sys.exit(3)"),
        ("leaves", 5, None, ""),
        ("faults", 139, None, ""),
        ("killed", 137, None, ""),
    ],
)
def test_ends_that_are_no_success(
    bench: Bench, step: str, exit_code: int, state: OutcomeState | None, words: str
) -> None:
    """Each has its exit code, an outcome where the process came to write one, and its words in the log."""
    for ended in bench.runs(2, step):
        assert ended.event.exit_code == exit_code
        assert (ended.outcome.state if ended.outcome else None) is state
        assert words in ended.log
        assert ended.event.message.startswith("killed; its largest process held" if step == "killed" else "")
    assert value(bench.run(bench.python("good"))) == 42


def test_a_traceback_shows_the_users_frames_alone(bench: Bench) -> None:
    """However the process began, nothing of the machinery is in what the user reads."""
    for ended in bench.runs(2, "raises"):
        frames = [line for line in ended.log.splitlines() if line.startswith("  File")]
        assert [str(bench.project) in line for line in frames] == [True]


def test_processes_inside_a_step(bench: Bench) -> None:
    """A step may fork, and may use pools that fork and pools that start new interpreters."""
    assert value(bench.run(bench.python("forks"))) == 0
    assert value(bench.run(bench.python("pools"))) == [0, 2, 4, 0, 2, 4]


def test_much_output(bench: Bench) -> None:
    """A log longer than any pipe is complete when the end is told."""
    assert len(bench.run(bench.python("loud")).log) == 64 * 16384


def test_nobody_can_be_asked(bench: Bench) -> None:
    """Standard input is empty."""
    assert value(bench.run(bench.python("asks"))) == ""


def test_what_a_step_finds(bench: Bench) -> None:
    """The same in a forked process as in a new one: its own session, no descriptor or handler of ours."""
    for ended in bench.runs(3, "tells"):
        found = value(ended)
        assert isinstance(found, dict)
        # The one by which the list was read.
        assert len(found.pop("files")) == 1
        assert found == {
            "cwd": str(bench.project),
            "leader": True,
            "argv": ["run"],
            "main": "__main__",
            "mine": "outer",
            "home": str(bench.root),
            "name": "tells",
            "path": [str(bench.project)],
            "children": 1,
            "signals": [True, True],
            "client": [],
        }


def test_many_at_once(bench: Bench) -> None:
    """Many jobs may be submitted before anybody asks for events, and each ends once."""
    jobs = [bench.python("good") for _ in range(MANY if bench.start_method is StartMethod.FORK else 60)]
    bench.engine.submit(jobs)
    ends: list[str] = []
    while len(ends) < len(jobs):
        event = bench.engine.next_event(LIMIT)
        assert event is not None
        if event.state is JobState.EXITED:
            assert event.exit_code == 0
            ends.append(event.key)
    assert sorted(ends) == sorted(job.key for job in jobs)


def test_cancelling(bench: Bench) -> None:
    """A step that is asked to end writes that it was cancelled."""
    job = bench.python("waits")
    handles = bench.engine.submit([job])
    pid_in(job)
    bench.engine.cancel(handles, 30)
    ended = bench.end(job)
    assert (ended.event.reason, ended.event.exit_code) == (Reason.CANCELLED, 143)
    assert ended.outcome is not None and ended.outcome.state is OutcomeState.CANCELLED


def test_cancelling_the_deaf(bench: Bench) -> None:
    """One that ignores it is killed when its grace is over, with the processes that it started."""
    job = bench.python("deaf")
    handles = bench.engine.submit([job])
    child = pid_in(job)
    bench.engine.cancel(handles, 60)
    bench.engine.cancel(handles, 0.1)
    ended = bench.end(job)
    assert (ended.event.reason, ended.event.exit_code, ended.outcome) == (Reason.CANCELLED, 137, None)
    assert not lives(child)


def test_what_a_step_leaves_running(bench: Bench) -> None:
    """It ends with the step, in whatever session it is."""
    left = value(bench.run(bench.python("litters")))
    assert isinstance(left, list)
    until(lambda: not any(lives(pid) for pid in left), f"{left} live on")


def test_what_a_step_leaves_running_beside_others(bench: Bench) -> None:
    """Another step that still runs does not keep its group alive, nor is it harmed."""
    other = bench.python("waits")
    handles = bench.engine.submit([other])
    mine = pid_in(other)
    left = value(bench.run(bench.python("litters")))
    assert isinstance(left, list)
    assert not lives(left[0])
    assert lives(mine)
    bench.engine.cancel(handles, 30)
    bench.end(other)
    until(lambda: not lives(left[1]), "it lives on")


@pytest.mark.parametrize(
    ("command", "exit_code", "state", "own"),
    [
        ('echo "$MINE"; echo hi > "$DISPATCH_OUTPUT_DIR/x"', 0, OutcomeState.COMPLETED, 0),
        ("exit 3", 1, OutcomeState.FAILED, 3),
        ("kill -9 $$", 137, OutcomeState.FAILED, 137),
        ("test -t 0 || ! read -r line", 0, OutcomeState.COMPLETED, 0),
        ("yes | head -n 1 > /dev/null", 0, OutcomeState.COMPLETED, 0),
    ],
)
def test_commands(bench: Bench, command: str, exit_code: int, state: OutcomeState, own: int) -> None:
    """A shell step runs in place, by the entrypoint that containers use."""
    ended = bench.run(bench.shell(command))
    assert ended.outcome is not None
    assert (ended.event.exit_code, ended.outcome.state, ended.outcome.exit_code) == (exit_code, state, own)


def test_cancelling_a_command(bench: Bench) -> None:
    """The command hears it, and the outcome says so."""
    job = bench.shell('echo $$ > "$DISPATCH_OUTPUT_DIR/../pid"; sleep 3600 & wait')
    handles = bench.engine.submit([job])
    pid_in(job)
    bench.engine.cancel(handles, 30)
    ended = bench.end(job)
    assert ended.event.reason is Reason.CANCELLED
    assert ended.outcome is not None and ended.outcome.state is OutcomeState.CANCELLED


def test_a_working_directory_that_is_gone(bench: Bench) -> None:
    """A Python step is not begun; a command's entrypoint says it as it does in a container."""
    python, gone = bench.python("good"), str(bench.root / "gone")
    ended = bench.run(replace(python, working_dir=gone))
    assert (ended.event.exit_code, ended.event.reason) == (None, Reason.INFRA)
    assert "the working directory is not there" in ended.event.message
    ended = bench.run(bench.shell("true", gone))
    assert ended.event.exit_code == 64 and ended.outcome is not None and ended.outcome.phase == "source"
    assert value(bench.run(bench.python("good"))) == 42


def test_a_log_that_cannot_be_written(bench: Bench) -> None:
    """An attempt's directory that is gone is told as the end of that job alone."""
    job = bench.python("good")
    bench.engine.submit([replace(job, attempt_dir=bench.root / "gone")])
    event = bench.engine.next_event(LIMIT)
    assert event is not None
    assert (event.state, event.reason) == (JobState.EXITED, Reason.INFRA)
    assert "out.log" in event.message


def test_a_module_that_does_not_import(bench: Bench) -> None:
    """Each of its steps fails and says why; steps of other modules are not touched."""
    bench.write("broken.py", "from dispatch import step\nprint('once')\nimport no_such_module\n")
    for ended in bench.runs(3, "it", module="broken"):
        assert ended.outcome is not None and ended.outcome.exception is not None
        assert ended.outcome.exception["type"] == "ModuleNotFoundError"
        assert ended.log.count("once\n") == 1
    assert value(bench.run(bench.python("good"))) == 42


IMPORT = """
import os
from dispatch import step

with open("imports", "a") as file:
    print(os.getpid(), file=file)

{body}

@step(__name__)
def it():
    return {result}
"""


@pytest.mark.parametrize(
    ("body", "result", "expected"),
    [
        ("", "1", 1),
        ("import socket\nheld = socket.socketpair()", "len(held)", 2),
        ("held = os.open('/dev/zero', os.O_RDONLY)", "len(os.read(held, 3))", 3),
        ("import threading, time\nworker = threading.Thread(target=time.sleep, args=(60,), daemon=True)"
         "\nworker.start()", "int(worker.is_alive())", 1),
        ("import subprocess\nchild = subprocess.Popen(['sleep', '60'])",
         "int(child.poll() is None and os.getsid(child.pid) == os.getsid(0))", 1),
        ("import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)", "1", 1),
        ("os.chdir('/')\nhere = os.getcwd()", "int(os.getcwd() == here)", 1),
    ],
)  # fmt: skip
def test_an_import_that_leaves_more_than_memory(bench: Bench, body: str, result: str, expected: int) -> None:
    """It is made in every step anew, so that each has its own; an import that does not is shared."""
    bench.write("odd.py", IMPORT.format(body=body, result=result))
    for ended in bench.runs(4, "it", module="odd"):
        assert value(ended) == expected
    imports = (bench.project / "imports").read_text().splitlines()
    shared = bench.start_method is StartMethod.FORK and body == ""
    assert len(set(imports)) == (2 if shared else 4)


@pytest.mark.parametrize("seed", ["", "random.seed(7)"])
def test_random_numbers(bench: Bench, seed: str) -> None:
    """They differ from step to step, unless the module seeds them: then each begins with the seed's first."""
    bench.write("dice.py", IMPORT.format(body=f"import random\n{seed}", result="random.random()"))
    found = {str(value(ended)) for ended in bench.runs(4, "it", module="dice")}
    assert len(found) == (1 if seed else 4)


GENERATOR = """
import os
_state = os.urandom(8)

def seed(value=None):
    global _state
    _state = os.urandom(8) if value is None else bytes([value])

def get_state():
    return ("fake", _state)

def set_state(state):
    global _state
    _state = state[1]
"""


@pytest.mark.parametrize("seed", ["", "numpy.random.seed(7)"])
def test_random_numbers_of_numpy(bench: Bench, seed: str) -> None:
    """Its global generator is treated likewise."""
    (bench.project / "numpy").mkdir()
    bench.write("numpy/__init__.py", "from numpy import random\n")
    bench.write("numpy/random.py", GENERATOR)
    body = f"import numpy\n{seed}"
    bench.write("dice.py", IMPORT.format(body=body, result="numpy.random.get_state()[1].hex()"))
    bench.write("other.py", IMPORT.format(body="import numpy\nnumpy.random.seed(9)", result="0"))
    bench.runs(3, "it", module="other")
    found = {str(value(ended)) for ended in bench.runs(4, "it", module="dice")}
    assert len(found) == (1 if seed else 4)


def test_variables_are_there_at_the_import(bench: Bench) -> None:
    """A module that reads a step's variable when it is imported never sees another step's."""
    bench.write("reads.py", IMPORT.format(body="SEED = os.environ.get('SEED')", result="SEED"))
    seeds = [*map(str, range(HELPERS + 2))] * 2
    found = [bench.run(bench.python("it", "reads", {"SEED": seed})) for seed in seeds]
    assert [value(ended) for ended in found] == seeds
    assert value(bench.run(bench.python("it", "reads"))) is None


def test_what_an_import_sets_stays(forking: Bench) -> None:
    """Variables and import paths that a module sets are there in steps that share its import."""
    (forking.project / "more").mkdir()
    forking.write("more/late.py", "x = 5")
    body = "import sys\nos.environ['MINE'] = 'set'\nsys.path.insert(0, os.path.abspath('more'))"
    forking.write("sets.py", IMPORT.format(body=body, result="[os.environ['MINE'], __import__('late').x]"))
    assert [value(ended) for ended in forking.runs(4, "it", module="sets")] == [["set", 5]] * 4


def test_an_import_that_fails_where_it_is_shared(forking: Bench) -> None:
    """A module that needs to know its step is imported in each, and the step never hears of the attempt."""
    body = "assert os.environ['DISPATCH_STEP_NAME'] == 'it'"
    forking.write("knows.py", IMPORT.format(body=body, result="1"))
    assert [value(ended) for ended in forking.runs(4, "it", module="knows")] == [1] * 4


def test_what_a_shared_import_prints(forking: Bench) -> None:
    """It is in the log of the step that caused it, and of no other."""
    forking.write("talks.py", IMPORT.format(body="print('hello')", result="1"))
    assert [ended.log for ended in forking.runs(4, "it", module="talks")] == ["hello\n", "hello\n", "", ""]


def test_a_helper_that_is_killed(bench: Bench) -> None:
    """Its jobs are lost, and told so; their processes are gone, and later jobs run."""
    bench.run(bench.python("good"))
    job = bench.python("waits")
    bench.engine.submit([job])
    pid = pid_in(job)
    helper = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    os.kill(helper, signal.SIGKILL)
    ended = bench.end(job)
    assert (ended.event.reason, ended.event.exit_code) == (Reason.LOST, None)
    assert "exit code -9" in ended.event.message
    until(lambda: not lives(pid), "the step lives on")
    assert value(bench.run(bench.python("good"))) == 42


def test_an_engine_that_is_closed(bench: Bench) -> None:
    """It takes its processes along, asked or not."""
    jobs = [bench.python("waits"), bench.python("deaf")]
    bench.engine.submit(jobs)
    pids = [pid_in(job) for job in jobs]
    bench.engine.close()
    assert not any(lives(pid) for pid in pids)


CLIENT = """
import os, sys
from pathlib import Path
from dispatch import payload
from dispatch.engine.process import StartMethod
from dispatch.testing.processes import Bench

bench = Bench(Path(sys.argv[1]), payload.Runtime(Path(sys.argv[2]), ""), StartMethod(sys.argv[3]))
{body}
"""


def client(bench: Bench, body: str, **options: object) -> subprocess.Popen[str]:
    """Another process that runs steps of the bench's project."""
    program = CLIENT.format(body=textwrap.dedent(body))
    arguments = [str(bench.root / "client"), str(bench.runtime.directory), bench.start_method.value]
    (bench.root / "client").mkdir()
    (bench.root / "client" / "project").symlink_to(bench.project)
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_killed(bench: Bench, number: signal.Signals) -> None:
    """Its steps are killed, with all that they started: nobody would take their results."""
    body = """
    bench.engine.submit([bench.python("waits"), bench.python("deaf"), bench.shell("sleep 3600")])
    while True:
        event = bench.engine.next_event(None)
    """
    process = client(bench, body, stderr=subprocess.DEVNULL)
    paths = [
        bench.root / "client" / "attempts" / name / "output" / "pid" for name in ("waits-abc.1", "deaf-abc.1")
    ]
    until(lambda: all(path.exists() and path.read_text() for path in paths), "steps do not begin")
    pids = [int(path.read_text()) for path in paths]
    process.send_signal(number)
    process.communicate(timeout=LIMIT)
    until(lambda: not any(lives(pid) for pid in pids), f"{pids} live on")


def test_a_client_without_standard_streams(bench: Bench) -> None:
    """Pipes that get the numbers 0 to 2 do no harm."""
    body = """
    ended = bench.run(bench.python("asks"))
    Path(sys.argv[1], "told").write_text(str(ended.outcome.state))
    bench.close()
    """
    process = client(bench, "for number in range(3): os.close(number)\n" + textwrap.dedent(body))
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert (bench.root / "client" / "told").read_text() == str(OutcomeState.COMPLETED)


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_an_interpreter_that_does_not_work(tmp_path: Path, runtime: payload.Runtime, python: str) -> None:
    """It is the engine's error, and says which it is."""
    bench = Bench(tmp_path, runtime)
    engine = ProcessEngine(python, runtime.directory, {})

    def go() -> Event | None:
        engine.submit([bench.python("good")])
        return engine.next_event(LIMIT)

    with pytest.raises(EngineError, match=python) as caught:
        # The end of the job is told first, and then that no other can be run.
        assert (event := go()) is not None and event.reason is Reason.LOST
        engine.next_event(LIMIT)
    assert caught.value.remedy
    engine.close()
    bench.close()


@pytest.mark.parametrize(("visible", "gpus"), [("2, 3", ("2", "3")), ("-1", ()), ("", ())])
def test_capabilities(runtime: payload.Runtime, visible: str, gpus: tuple[str, ...]) -> None:
    """They are this machine's, as far as the user leaves it to us."""
    found = ProcessEngine("python", runtime.directory, {"CUDA_VISIBLE_DEVICES": visible}).capabilities()
    assert (found.name, found.uid, found.gpus) == ("local", os.geteuid(), gpus)
    assert found.cpus == len(os.sched_getaffinity(0))


def test_no_socket_is_needed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and client talk through pipes alone: nothing on this machine can reach in."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socketpair", refuse)
    assert value(bench.run(bench.python("good"))) == 42
