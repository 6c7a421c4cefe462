"""How a step's process ends: handlers, signals, children; what is left behind, and what never is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch.job import (
    PythonTask,
    StepLabel,
    describe_environment,
    environment,
    write_describe_job,
    write_step_job,
)
from dispatch.runtime.outcome import OutcomeState
from dispatch.testing.inside import STEPS, Inside, interpreters

PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))


def test_exit_handlers_run_between_result_and_outcome(project: Inside) -> None:
    """The order: result, handlers, outcome; threads still running are not waited for."""
    project.write(
        "steps.py",
        """
        import atexit, os, threading, time
        from dispatch import step

        @step()
        def orderly():
            here = os.environ["DISPATCH_OUTPUT_DIR"]
            def handler():
                seen = os.listdir(here), os.listdir(os.path.dirname(here))
                with open(os.path.join(os.environ["DISPATCH_WORK_DIR"], "seen"), "w") as file:
                    file.write(repr(seen))
                print("handled")
            atexit.register(handler)
            atexit.register(lambda: 1 / 0)
            threading.Thread(target=time.sleep, args=(3600,)).start()
            return 1
        """,
    )
    ended = project.run("orderly")
    assert (ended.exit_code, ended.state) == (0, OutcomeState.COMPLETED)
    assert Path(project.places.work, "seen").read_text() == "(['data.json'], ['result'])"
    assert ended.stdout == "handled\n"
    assert "ZeroDivisionError" in ended.stderr


@pytest.mark.parametrize(
    "spoil", ["sys.stdout.close()", "sys.stdout = sys.stderr = None", "os.close(1); os.close(2)"]
)
def test_spoiled_streams_do_not_cost_the_result(project: Inside, spoil: str) -> None:
    """A step may close or replace its streams; the end is the same."""
    project.write(
        "steps.py",
        f"import os, sys\nfrom dispatch import step\n@step()\ndef spoils():\n    {spoil}\n    return 1\n",
    )
    ended = project.run("spoils")
    assert (ended.exit_code, ended.state) == (0, OutcomeState.COMPLETED)


def test_output_that_cannot_be_written_leaves_no_outcome(project: Inside) -> None:
    """If the outcome has no place, one line says so, and the code is not 0."""
    project.write(
        "steps.py",
        """
        import os, shutil
        from dispatch import step

        @step()
        def removes():
            import atexit
            atexit.register(shutil.rmtree, os.path.dirname(os.environ["DISPATCH_OUTPUT_DIR"]))
            return 1
        """,
    )
    ended = project.run("removes")
    assert (ended.exit_code, ended.outcome) == (1, None)
    assert "dispatch: the outcome cannot be written" in ended.stderr


STOPPABLE = """
    import os, sys, time
    from dispatch import step

    def wait():
        print("ready", flush=True)
        time.sleep(60)

    @step()
    def tidy():
        try:
            wait()
        finally:
            print("tidied")

    @step()
    def swallows():
        try:
            wait()
        except BaseException:
            return "half"

    @step()
    def breaks():
        try:
            wait()
        finally:
            raise ValueError("while stopping")

    @step()
    def leaves():
        try:
            wait()
        finally:
            sys.exit(0)

    @step()
    def lingers():
        import atexit
        atexit.register(wait)
        return 1
"""


@pytest.mark.parametrize("qualname", ["tidy", "swallows", "breaks", "leaves", "lingers"])
def test_a_stopped_step_is_cancelled(project: Inside, qualname: str) -> None:
    """TERM ends the step through its ``finally``; however it takes that, nothing of it counts as a result."""
    project.write("steps.py", STOPPABLE)
    process = project.start(qualname)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    ended = project.end(process)
    assert (ended.exit_code, ended.state) == (143, OutcomeState.CANCELLED)
    assert ended.outcome is not None
    assert ended.outcome.exit_code == 143
    assert ended.stdout == ("tidied\n" if qualname == "tidy" else "")


@every_python
def test_workers_end_quietly(project: Inside, python: str) -> None:
    """A forked worker is ended by TERM like any program, and a spawned one can import the step's module."""
    project.python = python
    project.write(
        "steps.py",
        """
        import multiprocessing, os, signal, time
        from dispatch import step

        def double(x):
            return 2 * x

        @step()
        def pool():
            forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            forked.start()
            forked.terminate()
            forked.join()
            with multiprocessing.get_context("spawn").Pool(1) as workers:
                return [forked.exitcode, workers.map(double, [1, 2])]
        """,
    )
    ended = project.run("pool")
    assert ended.exit_code == 0, ended.stderr
    assert json.loads((ended.result / "data.json").read_text()) == [-signal.SIGTERM, [2, 4]]
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("child", "code"),
    [("sys.exit(5)", 5), ("return 1", 0), ("raise ValueError('child')", 1), ("sys.exit('no')", 1)],
)
def test_a_forked_child_does_not_write_the_outcome(project: Inside, child: str, code: int) -> None:
    """A child that comes back up through the step ends like any program, and leaves the output alone."""
    project.write(
        "steps.py",
        f"""
        import os, sys
        from dispatch import step

        @step()
        def forks():
            pid = os.fork()
            if pid == 0:
                {child}
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            outcome = os.path.exists("../dispatch/output/outcome.json")
            return [code, os.listdir(os.environ["DISPATCH_OUTPUT_DIR"]), outcome]
        """,
    )
    ended = project.run("forks")
    assert (ended.exit_code, ended.state) == (0, OutcomeState.COMPLETED)
    assert json.loads((ended.result / "data.json").read_text()) == [code, [], False]


@pytest.mark.parametrize(
    "shell", [["sh"], ["busybox", "sh"]] if shutil.which("busybox") else [["sh"]], ids=" ".join
)
@pytest.mark.parametrize("interpreter", [None, "python here/bin/python3"])
def test_the_entrypoint_ends_in_the_step(project: Inside, shell: list[str], interpreter: str | None) -> None:
    """From sh to the outcome, with an interpreter that is found or given; TERM reaches the step itself."""
    project.write("steps.py", STOPPABLE)
    here = project.places
    tools = project.root / "python here/bin"
    tools.mkdir(parents=True)
    for name in ("python3", "python"):
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (tools / name).chmod(0o755)
    for directory in (here.output, here.work):
        Path(directory).mkdir(parents=True)
    Path(here.runtime).symlink_to(project.runtime.directory)
    label = StepLabel(name="it", unique_id="It-abc", type="tidy", attempt=1)
    given = str(project.root / interpreter) if interpreter else None
    task = PythonTask("steps", "tidy", None, None, {}, {}, (here.source,), given)
    files = write_step_job(Path(here.job), label, task, here.source, here)
    process = subprocess.Popen(
        [*shell, str(files.entrypoint)],
        env={"PATH": f"{tools}:{os.environ['PATH']}", **environment(label, {}, {}, places=here)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    ended = project.end(process)
    assert (ended.exit_code, ended.state, ended.stdout) == (143, OutcomeState.CANCELLED, "tidied\n")
    assert ended.stderr == "dispatch: phase source\ndispatch: phase run\n"


def test_the_describing_entrypoint_leaves_the_answer(project: Inside) -> None:
    """The answer lies beside where an outcome would be."""
    project.write("steps.py", STEPS)
    here = project.places
    Path(here.output).mkdir(parents=True)
    Path(here.runtime).symlink_to(project.runtime.directory)
    request = {"contract": 1, "packages": ["steps"], "paths": [here.source], "steps": {}}
    files = write_describe_job(Path(here.job), request, sys.executable, here.source, here)
    env = {"PATH": os.environ["PATH"], **describe_environment({}, here)}
    subprocess.run(["sh", str(files.entrypoint)], env=env, check=True, timeout=120)
    assert json.loads(Path(here.output, "answer.json").read_text())["types"] == [
        "fails",
        "hello",
        "nested.train",
    ]
