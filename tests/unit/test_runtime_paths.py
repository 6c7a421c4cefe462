"""Which file an import finds in a container, in real processes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from dispatch import payload
from dispatch.testing.inside import STEPS, Inside, interpreters

PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))


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
    def tagged(): return {1, 2}

    @step(format="pickle")
    def pickled(): return {1, 2}

    @step(bind=True)
    def logs(self):
        self.logger.info("heard")
        return str(self.work_dir)

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
def test_no_file_of_the_user_stands_in_for_the_library(project: Inside, python: str) -> None:
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
    for name in ("tagged", "pickled"):
        ended = project.run(name)
        assert ended.exit_code == 0, ended.stderr
    logged = project.run("logs")
    assert (logged.exit_code, logged.stderr) == (0, "INFO steps.logs: heard\n")
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


def test_the_users_modules_come_before_the_library(project: Inside) -> None:
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
def test_python_processes_of_a_step_find_the_same(project: Inside, inherited: str) -> None:
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


def test_an_image_with_safe_path_works(project: Inside) -> None:
    """PYTHONSAFEPATH keeps the script's folder off the path; the runtime is found nevertheless."""
    project.env = {"PYTHONSAFEPATH": "1"}
    project.write("steps.py", STEPS)
    assert project.run("hello").exit_code == 0


@pytest.mark.parametrize("line", ["from dispatch import Executor", "import dispatch.executor"])
def test_what_does_not_travel_says_so(project: Inside, line: str) -> None:
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
def test_an_image_compiles_its_own_runtime(project: Inside, python: str) -> None:
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
