"""What happens inside a container, in real processes: describing steps, running one, and how it ends.

Each test that depends on the interpreter runs under every Python that is at hand, 3.9 to 3.13.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dispatch import payload
from dispatch.job import (
    Outcome,
    Places,
    PythonTask,
    StepLabel,
    describe_environment,
    environment,
    read_outcome,
    write_describe_job,
    write_step_job,
)
from dispatch.runtime.outcome import OutcomeState, timestamp


def interpreters() -> dict[str, str]:
    """Find a Python of each supported minor version, this one first."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for minor in range(9, 14):
        homes = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        for candidate in (shutil.which(f"python3.{minor}"), shutil.which("python3"), *map(str, homes)):
            if candidate is not None and f"3.{minor}" not in found and _is(candidate, minor):
                found[f"3.{minor}"] = candidate
    return found


def _is(candidate: str, minor: int) -> bool:
    program = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return subprocess.run([candidate, "-c", program], capture_output=True).returncode == 0


PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> payload.Runtime:
    """The runtime directory as containers see it."""
    return payload.provide(tmp_path_factory.mktemp("cache"))


@dataclass
class Ended:
    """A step that came to its end."""

    exit_code: int
    stdout: str
    stderr: str
    outcome: Outcome | None
    result: Path

    @property
    def state(self) -> OutcomeState:
        assert self.outcome is not None, self.stderr
        return self.outcome.state

    @property
    def message(self) -> str:
        assert self.outcome is not None
        assert self.outcome.exception is not None, self.outcome
        return self.outcome.exception["message"]


@dataclass
class Project:
    """A user's repository, and the places of one container."""

    root: Path
    runtime: payload.Runtime
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> Places:
        return Places(root=str(self.root / "dispatch"), source=str(self.root / "src"))

    def write(self, name: str, text: str) -> None:
        """Write a file of the repository."""
        path = Path(self.places.source, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def start(self, qualname: str, **options: Any) -> subprocess.Popen[str]:
        """Start the step ``qualname`` of the module ``steps``, as its entrypoint does."""
        here = self.places
        shutil.rmtree(here.root, ignore_errors=True)
        for directory in (here.output, here.work, here.source):
            Path(directory).mkdir(parents=True, exist_ok=True)
        label = StepLabel(name="it", unique_id="It-abc", type=options.pop("type", qualname), attempt=1)
        task = PythonTask(
            module=options.pop("module", "steps"),
            qualname=qualname,
            version=options.pop("version", None),
            format=options.pop("format", None),
            inputs=options.pop("inputs", {}),
            arguments=options,
            paths=(here.source,),
        )
        files = write_step_job(Path(here.job), label, task, here.source, here)
        return subprocess.Popen(
            [self.python, str(self.runtime.directory / "main.py"), "run", str(files.document)],
            cwd=here.source,
            env={"PATH": os.environ["PATH"], **environment(label, {}, {}, places=here), **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the step and collect what it left."""
        out, err = process.communicate(timeout=120)
        output = Path(self.places.output)
        return Ended(process.returncode, out, err, read_outcome(output), output / "result")

    def run(self, qualname: str, **options: Any) -> Ended:
        """Run a step to its end; ``options`` that are none are its arguments."""
        return self.end(self.start(qualname, **options))

    def describe(self, packages: list[str], steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Ask what steps are."""
        declared = {name: {"arguments": {}, "format": None, **step} for name, step in steps.items()}
        request = {"contract": 1, "packages": packages, "paths": [self.places.source], "steps": declared}
        asked, answered = self.root / "request.json", self.root / "answer.json"
        asked.write_text(json.dumps(request))
        subprocess.run(
            [self.python, str(self.runtime.directory / "main.py"), "describe", str(asked), str(answered)],
            cwd=self.places.source,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **self.env},
            check=True,
            timeout=120,
        )
        answer: dict[str, Any] = json.loads(answered.read_text())
        return answer


@pytest.fixture
def project(tmp_path: Path, runtime: payload.Runtime) -> Project:
    """An empty repository, to be run by this interpreter."""
    return Project(tmp_path, runtime)


STEPS = """
    from dispatch import Step, step

    @step()
    def hello(name: str = "you", n: int = 1) -> dict:
        print("out")
        return {"hello": [name] * n}

    @Step.register("nested.train")
    class Train(Step):
        VERSION = "002"

        def run(self, data: dict, C: float = 1.0) -> object:
            return (self.name, self.unique_id, str(self.work_dir), data, C)

    @step()
    def fails(x: int):
        def inner():
            raise ValueError(f"x is {x}")
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("no") from error
"""


# ------------------------------------------------------------------------------------------ running


@every_python
def test_a_step_runs_to_its_result(project: Project, python: str) -> None:
    """The result is written in its format, and the outcome tells state, times and interpreter."""
    project.python = python
    project.write("steps.py", STEPS)
    ended = project.run("hello", name="me", n=2)
    assert ended.exit_code == 0, ended.stderr
    assert json.loads((ended.result / "data.json").read_text()) == {"hello": ["me", "me"]}
    assert (ended.stdout, ended.stderr) == ("out\n", "")
    assert ended.outcome is not None
    assert (ended.state, ended.outcome.exit_code, ended.outcome.exception) == (
        OutcomeState.COMPLETED,
        0,
        None,
    )
    assert ended.outcome.started is not None
    assert ended.outcome.ended is not None
    assert ended.outcome.started <= ended.outcome.ended
    assert ended.outcome.interpreter is not None
    assert PYTHONS[ended.outcome.interpreter.rpartition(".")[0]] == python


@every_python
def test_a_step_that_raises_shows_the_users_frames_only(project: Project, python: str) -> None:
    """Exit 1; the traceback on stderr and in the outcome begins in the user's file, causes included."""
    project.python = python
    project.write("steps.py", STEPS)
    ended = project.run("fails", x=3)
    assert ended.exit_code == 1
    assert ended.state is OutcomeState.FAILED
    assert ended.outcome is not None
    assert ended.outcome.exception is not None
    assert ended.outcome.exception["type"] == "RuntimeError"
    assert ended.message == "no"
    assert ended.outcome.exception["traceback"] == ended.stderr
    assert "ValueError: x is 3" in ended.stderr
    assert "steps.py" in ended.stderr
    assert str(project.runtime.directory) not in ended.stderr
    assert not list(ended.result.iterdir())


def test_a_class_step_knows_itself(project: Project) -> None:
    """Name, unique id and work directory are the job's; references arrive as values, and arguments typed."""
    project.write("steps.py", STEPS)
    place = project.root / "in"
    place.mkdir()
    (place / "data.json").write_text('{"a": {"b": 1}}')
    project.write("again.py", "from dispatch import step\n@step()\ndef show(x): return x\n")
    ended = project.run(
        "Train",
        version="002",
        inputs={"digits": str(place)},
        data={"type": "ref", "ref": "digits", "key": "a"},
        C=2,
    )
    assert ended.exit_code == 0, ended.stderr
    assert (ended.result / "data.pickle").is_file()
    shown = project.run("show", module="again", inputs={"t": str(_kept(ended.result))}, x={"ref": "t"})
    assert shown.exit_code == 0, shown.stderr
    assert (shown.result / "data.pickle").read_bytes() == (_kept(ended.result) / "data.pickle").read_bytes()


def _kept(result: Path) -> Path:
    """Move a result out of the way of the next run, once."""
    kept = result.parent.parent.parent / "kept"
    if not kept.exists():
        shutil.copytree(result, kept)
    return kept


def test_a_commands_result_arrives_as_a_path(project: Project) -> None:
    """A directory without a data file is a shell step's: the step is given its Path."""
    project.write(
        "steps.py",
        "from dispatch import step\n@step()\ndef names(d): return sorted(p.name for p in d.iterdir())\n",
    )
    place = project.root / "in"
    place.mkdir()
    (place / "sizes.txt").touch()
    ended = project.run("names", inputs={"a": str(place)}, d={"ref": "a"})
    assert json.loads((ended.result / "data.json").read_text()) == ["sizes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nam": "x"}, "argument 'nam'"),
        ({"n": "3"}, "argument 'n'"),
        ({"version": "001"}, "VERSION is None here, but was '001'"),
        ({"format": "yaml"}, "no 'yaml' is registered"),
        ({"name": {"ref": "a", "key": "gone"}}, "the result of step 'a', a dict, has no item 'gone'"),
        ({"name": {"ref": "a", "key": 0}}, "has no item 0"),
    ],
)
def test_a_fault_in_the_job_is_one_line(project: Project, options: dict[str, Any], message: str) -> None:
    """What can be wrong although the step was described ends with our message, not with a traceback."""
    project.write("steps.py", STEPS)
    place = project.root / "in"
    place.mkdir()
    (place / "data.json").write_text("{}")
    ended = project.run("hello", inputs={"a": str(place)}, **options)
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert message in ended.message
    assert "Traceback" not in ended.stderr
    assert message in ended.stderr


def test_only_the_defining_module_is_imported(project: Project) -> None:
    """Its neighbours may need what this image does not have."""
    project.write("pack/__init__.py", "")
    project.write("pack/torchy.py", "import no_such_library\n")
    project.write("pack/steps.py", STEPS)
    assert project.run("hello", module="pack.steps").exit_code == 0


def test_a_class_made_inside_a_function_is_found_by_its_name(project: Project) -> None:
    """Where the qualified name leads nowhere, the registered one does."""
    project.write(
        "steps.py",
        """
        from dispatch import Step

        def make():
            @Step.register("made")
            class Made(Step):
                def run(self):
                    return 1
        make()
        """,
    )
    assert project.run("make.<locals>.Made", type="made").exit_code == 0


def test_a_module_that_does_not_import_is_the_steps_failure(project: Project) -> None:
    """The traceback begins in the user's module."""
    project.write("steps.py", "import no_such_library\n")
    ended = project.run("hello")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert ended.message == "No module named 'no_such_library'"
    assert ended.stderr.startswith(
        f'Traceback (most recent call last):\n  File "{project.places.source}/steps.py", line 1'
    )
    assert "importlib" not in ended.stderr


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("(i for i in [1])", "builtins.generator"),
        ("lambda: 1", "builtins.function"),
        ("open(__file__)", "TextIOWrapper"),
    ],
)
def test_a_result_that_cannot_be_written_names_its_type(project: Project, expression: str, kind: str) -> None:
    """A generator or a lambda is a FormatError that says what it was; nothing is left behind."""
    project.write("steps.py", f"from dispatch import step\n@step()\ndef odd(): return {expression}\n")
    ended = project.run("odd")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert kind in ended.message
    assert ended.outcome is not None
    assert ended.outcome.exception is not None
    assert ended.outcome.exception["type"] == "FormatError"
    assert not list(ended.result.iterdir())


@pytest.mark.parametrize(
    ("call", "own", "shown"),
    [
        ("sys.exit()", 0, "sys.exit(None)"),
        ("sys.exit(0)", 0, "sys.exit(0)"),
        ("sys.exit(7)", 7, "sys.exit(7)"),
        ("sys.exit('gone')", 1, "sys.exit('gone')"),
        ("exit(3)", 3, "sys.exit(3)"),
    ],
)
def test_a_step_that_exits_has_failed(project: Project, call: str, own: int, shown: str) -> None:
    """There is no result, so the container's code is 1 whatever was asked; the outcome has the step's."""
    project.write("steps.py", f"import sys\nfrom dispatch import step\n@step()\ndef leaves(): {call}\n")
    ended = project.run("leaves")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert ended.outcome is not None
    assert ended.outcome.exit_code == own
    assert shown in ended.message
    assert "steps.py" in ended.stderr


def test_a_step_that_ends_its_process_leaves_no_outcome(project: Project) -> None:
    """os._exit cannot be caught: no outcome, and the code is what the client has."""
    project.write("steps.py", "import os\nfrom dispatch import step\n@step()\ndef leaves(): os._exit(3)\n")
    ended = project.run("leaves")
    assert (ended.exit_code, ended.outcome) == (3, None)


@pytest.mark.parametrize(
    "error",
    [
        "type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
        "Exception('\\ud800 and \\x00')",
        "Exception('x' * 1_000_000)",
        "type('E', (BaseException,), {})('base')",
        "RecursionError()",
        "KeyboardInterrupt()",
    ],
)
def test_any_exception_leaves_an_outcome(project: Project, error: str) -> None:
    """Whatever is raised, with whatever text, is recorded within bounds."""
    project.write("steps.py", f"from dispatch import step\n@step()\ndef raises(): raise {error}\n")
    ended = project.run("raises")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert len(ended.message) <= 10_000


# --------------------------------------------------------------------------------- the end of a run


def test_exit_handlers_run_between_result_and_outcome(project: Project) -> None:
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
def test_spoiled_streams_do_not_cost_the_result(project: Project, spoil: str) -> None:
    """A step may close or replace its streams; the end is the same."""
    project.write(
        "steps.py",
        f"import os, sys\nfrom dispatch import step\n@step()\ndef spoils():\n    {spoil}\n    return 1\n",
    )
    ended = project.run("spoils")
    assert (ended.exit_code, ended.state) == (0, OutcomeState.COMPLETED)


def test_output_that_cannot_be_written_leaves_no_outcome(project: Project) -> None:
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
def test_a_stopped_step_is_cancelled(project: Project, qualname: str) -> None:
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
def test_workers_end_quietly(project: Project, python: str) -> None:
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
def test_a_forked_child_does_not_write_the_outcome(project: Project, child: str, code: int) -> None:
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


# --------------------------------------------------------------------------------- the entrypoint


@pytest.mark.parametrize(
    "shell", [["sh"], ["busybox", "sh"]] if shutil.which("busybox") else [["sh"]], ids=" ".join
)
@pytest.mark.parametrize("interpreter", [None, "python here/bin/python3"])
def test_the_entrypoint_ends_in_the_step(project: Project, shell: list[str], interpreter: str | None) -> None:
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


def test_the_describing_entrypoint_leaves_the_answer(project: Project) -> None:
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


# -------------------------------------------------------------------------------- the import path


SHADOWS = sorted(
    name
    for name in sys.stdlib_module_names
    if not name.startswith("_") and name != "this" and importlib.util.find_spec(name) is not None
)

PLAIN = """
    from dispatch import Step, step

    @step()
    def data(): return {"a": [1.5, None]}

    @step()
    def text(): return "x"

    @step()
    def pickled(): return {1, 2}

    @step()
    def fails():
        é = 1
        return é + (2 / 0)

    @step()
    def misspelt(): return prnt(1)

    @step()
    def exits(): raise SystemExit(2)

    @Step.register("typed")
    class Typed(Step):
        def run(self, a: "dict[str, list[float]]", b: "tuple | None" = None) -> object:
            return self.work_dir.name
"""


@every_python
def test_no_file_of_the_user_stands_in_for_the_library(project: Project, python: str) -> None:
    """A file named like each module of the library lies beside the steps, and the runtime works as ever."""
    project.python = python
    for name in SHADOWS:
        project.write(f"{name}.py", f"raise RuntimeError('the user\\'s own {name}')\n")
    for name in ("main", "dispatch_tools", "lib", "runtime"):
        project.write(f"{name}.py", "raise RuntimeError('imported')\n")
    project.write("steps.py", PLAIN)
    place = project.root / "in"
    place.mkdir()
    (place / "data.pickle").write_bytes(b"\x80\x05K\x01.")
    assert project.run("data").exit_code == 0
    assert project.run("text").exit_code == 0
    assert project.run("pickled").exit_code == 0
    typed = project.run("Typed", a={"x": [1]}, b={"ref": "i"}, inputs={"i": str(place)})
    assert typed.exit_code == 0, typed.stderr
    for name, line in (("fails", "return é + (2 / 0)"), ("misspelt", "return prnt(1)")):
        stderr = project.run(name).stderr
        assert "Traceback" in stderr
        assert line in stderr
    assert "sys.exit(2)" in project.run("exits").message
    assert "did you mean" in project.run("Typed", aa=1).message
    answer = project.describe(
        ["steps", "step"], {"t": {"type": "typed", "arguments": {"a": {"x": [1]}}}, "u": {"type": "typd"}}
    )
    assert answer["packages"]["steps"] is None
    assert answer["packages"]["step"]["missing"] == "step"
    assert "ok" in answer["steps"]["t"], answer["steps"]["t"]
    assert "did you mean" in answer["steps"]["u"]["error"]["message"]


def test_the_users_modules_come_before_the_library(project: Project) -> None:
    """As at home: the user's own main.py, calendar.py and dispatch_tools.py are what the step imports."""
    for name in ("main", "calendar", "dispatch_tools"):
        project.write(f"{name}.py", f"WHOSE = 'the user\\'s {name}'\n")
    project.write(
        "steps.py",
        """
        import calendar, dispatch_tools, main
        from dispatch import step

        @step()
        def whose(): return [main.WHOSE, calendar.WHOSE, dispatch_tools.WHOSE]
        """,
    )
    ended = project.run("whose")
    assert ended.exit_code == 0, ended.stderr
    assert "the user's dispatch_tools" in (ended.result / "data.json").read_text()


@pytest.mark.parametrize("inherited", ["", "/opt/more"])
def test_python_processes_of_a_step_find_the_same(project: Project, inherited: str) -> None:
    """PYTHONPATH leads children to the runtime and the source, then to what the image had there."""
    project.env = {"PYTHONPATH": inherited} if inherited else {}
    project.write("helper.py", "import dispatch.step, os\nprint(os.environ['PYTHONPATH'])\n")
    project.write(
        "steps.py",
        """
        import subprocess, sys
        from dispatch import step

        @step()
        def child():
            program = "import os; os.chdir('/'); import helper"
            return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout
        """,
    )
    ended = project.run("child")
    assert ended.exit_code == 0, ended.stderr
    expected = [
        f"{project.runtime.directory}/lib",
        project.places.source,
        *([inherited] if inherited else []),
    ]
    assert (ended.result / "data.bin").read_text() == ":".join(expected) + "\n"


def test_an_image_with_safe_path_works(project: Project) -> None:
    """PYTHONSAFEPATH keeps the script's folder off the path; the runtime is found nevertheless."""
    project.env = {"PYTHONSAFEPATH": "1"}
    project.write("steps.py", STEPS)
    assert project.run("hello").exit_code == 0


@pytest.mark.parametrize("line", ["from dispatch import Executor", "import dispatch.executor"])
def test_what_does_not_travel_says_so(project: Project, line: str) -> None:
    """A name of the client is an ImportError that explains itself, not a missing library."""
    project.write("steps.py", f"{line}\n")
    ended = project.run("hello")
    assert ended.exit_code == 1
    assert "inside a step" in ended.message
    assert "client" in ended.message
    failure = project.describe(["steps"], {})["packages"]["steps"]
    assert failure["error"].startswith("ImportError: ")
    assert failure["missing"] is None


@pytest.mark.parametrize("version", [(3, 8, 20), (2, 7, 18)])
def test_an_old_python_is_refused_in_one_line(
    runtime: payload.Runtime, version: tuple[int, int, int]
) -> None:
    """Exit 65 (environment) and a line that names the version; the script itself is readable to it."""
    program = (
        f"import sys, runpy; sys.version_info = {version}; runpy.run_path(sys.argv[1], None, '__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runtime.directory / "main.py")], capture_output=True, text=True
    )
    assert done.returncode == 65
    assert f"Python is {version[0]}.{version[1]}, but a step needs 3.9" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["run"], ["describe", "x"], ["remove", "x"]])
def test_an_unknown_verb_is_refused(runtime: payload.Runtime, arguments: list[str]) -> None:
    """The script does nothing but its verbs."""
    done = subprocess.run(
        [sys.executable, str(runtime.directory / "main.py"), *arguments], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr[:6]) == (65, "usage:")


@every_python
def test_an_image_compiles_its_own_runtime(project: Project, python: str) -> None:
    """Bytecode made by an image's interpreter is taken into a copy for that image, and used there."""
    made = project.root / "made"
    subprocess.run([python, str(project.runtime.directory / "main.py"), "bytecode", str(made)], check=True)
    files = {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*.pyc")}
    own = payload.provide_for(project.root / "cache", "sha256:aa", files)
    assert len(list(own.directory.rglob("*.pyc"))) == len(list(own.directory.rglob("lib/**/*.py")))
    (own.directory / "lib/dispatch/step.py").write_text("raise RuntimeError('compiled anew')\n")
    project.python, project.runtime = python, own
    project.write("steps.py", STEPS)
    ended = project.run("hello")
    assert ended.exit_code == 0, ended.stderr


# --------------------------------------------------------------------------------------- describing


@every_python
def test_describe_answers_for_each_step(project: Project, python: str) -> None:
    """Identity, flags, typed arguments with references by name; the answer is the same under any Python."""
    project.python = python
    project.write("steps.py", STEPS)
    answer = project.describe(
        ["steps"],
        {
            "a": {"type": "hello", "arguments": {"n": 2}},
            "b": {
                "type": "nested.train",
                "arguments": {"data": {"type": "ref", "ref": "a"}, "C": 1},
                "format": "json",
            },
        },
    )
    assert answer["contract"] == 1
    assert answer["packages"] == {"steps": None}
    assert answer["types"] == ["fails", "hello", "nested.train"]
    assert answer["steps"]["a"]["ok"] == {
        "class": "hello",
        "module": "steps",
        "qualname": "hello",
        "type": "hello",
        "version": None,
        "deterministic": True,
        "cacheable": True,
        "format": {"name": "auto", "version": "001"},
        "arguments": ["d", [[["s", "n"], ["i", "2"]], [["s", "name"], ["s", "you"]]]],
        "resources": None,
    }
    trained = answer["steps"]["b"]["ok"]
    assert (trained["class"], trained["version"], trained["format"]["name"]) == ("Train", "002", "json")
    assert trained["arguments"] == [
        "d",
        [[["s", "C"], ["f", "0x1.0000000000000p+0"]], [["s", "data"], ["ref", "a", None]]],
    ]


@pytest.mark.parametrize(
    ("step", "kind", "argument", "part"),
    [
        ({"type": "helo"}, "unknown_type", None, "did you mean 'hello'"),
        ({"type": "hello", "arguments": {"nam": "x"}}, "argument", "nam", "did you mean 'name'"),
        ({"type": "hello", "arguments": {"n": "2"}}, "argument", "n", "expected int, got str"),
        ({"type": "fails"}, "argument", "x", "is missing"),
        ({"type": "hello", "format": "yaml"}, "step", None, "yaml"),
        ({"type": "massaged"}, "step", None, "ZeroDivisionError"),
        ({"type": "empty"}, "step", None, "run()"),
        ({"type": "odd", "arguments": {}}, "argument", "x", "object"),
    ],
)
def test_describe_names_what_is_wrong(
    project: Project, step: dict[str, Any], kind: str, argument: str | None, part: str
) -> None:
    """Each fault is an answer with its kind, the argument where it is one, and words for the user."""
    more = """
    @Step.register("massaged")
    class Massaged(Step):
        @classmethod
        def massage_kwargs(cls, kwargs): return 1 / 0
        def run(self): pass

    @Step.register("empty")
    class Empty(Step):
        pass

    @step()
    def odd(x=object()): pass
    """
    project.write("steps.py", STEPS + more)
    error = project.describe(["steps"], {"s": step})["steps"]["s"]["error"]
    assert (error["kind"], error["argument"]) == (kind, argument)
    assert part in error["message"]


def test_describe_imports_whole_packages_and_keeps_failures(project: Project) -> None:
    """Modules below a package are imported, each failure noted under its own name; no program is run."""
    project.write("pack/__init__.py", "")
    project.write("pack/__main__.py", "raise RuntimeError('run')\n")
    project.write("pack/good.py", STEPS)
    project.write("pack/torchy.py", "import no_such_library.sub\n")
    project.write("pack/deep/__init__.py", "import sys; sys.exit(3)\n")
    project.write("pack/broken.py", "def f(:\n")
    answer = project.describe(["pack", "pack.good", "gone"], {"a": {"type": "hello"}})
    assert "ok" in answer["steps"]["a"]
    packages = answer["packages"]
    assert set(packages) == {"pack", "pack.good", "pack.torchy", "pack.deep", "pack.broken", "gone"}
    assert packages["pack"] is None
    assert packages["pack.good"] is None
    assert packages["pack.torchy"]["missing"] == "no_such_library"
    assert packages["pack.torchy"]["error"] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert f"{project.places.source}/pack/torchy.py" in packages["pack.torchy"]["traceback"]
    assert str(project.runtime.directory) not in packages["pack.torchy"]["traceback"]
    assert packages["pack.deep"]["error"].startswith("SystemExit")
    assert packages["pack.broken"]["error"].startswith("SyntaxError")
    assert packages["gone"]["missing"] == "gone"


def test_describe_ends_although_a_package_left_threads(project: Project) -> None:
    """What an import started is not waited for."""
    project.write(
        "steps.py",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n"
        + textwrap.dedent(STEPS),
    )
    assert "ok" in project.describe(["steps"], {"a": {"type": "hello"}})["steps"]["a"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000000Z"), (1714557600.25, "2024-05-01T10:00:00.250000Z")],
)
def test_times_are_in_utc(seconds: float, text: str) -> None:
    """The outcome's times say Z and mean it."""
    assert timestamp(seconds) == text
