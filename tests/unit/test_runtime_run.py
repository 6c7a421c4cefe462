"""Running one step, in real processes, under every Python that is at hand."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from dispatch.formats import read_result
from dispatch.job import InlineTask
from dispatch.runtime.outcome import OutcomeState
from dispatch.testing.inside import STEPS, Inside, interpreters

PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))


@every_python
def test_a_step_runs_to_its_result(project: Inside, python: str) -> None:
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
def test_a_step_that_raises_shows_the_users_frames_only(project: Inside, python: str) -> None:
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


def test_a_class_step_knows_itself(project: Inside) -> None:
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
    assert read_result(ended.result) == ("it", "It-abc", project.places.work, {"b": 1}, 2.0)
    kept = project.root / "kept"
    shutil.copytree(ended.result, kept)
    shown = project.run("show", module="again", inputs={"t": str(kept)}, x={"ref": "t"})
    assert shown.exit_code == 0, shown.stderr
    assert read_result(shown.result) == read_result(kept)


def test_a_commands_result_arrives_as_a_path(project: Inside) -> None:
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
def test_a_fault_in_the_job_is_one_line(project: Inside, options: dict[str, Any], message: str) -> None:
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


@every_python
def test_a_running_step_has_its_surroundings_and_no_workspace(project: Inside, python: str) -> None:
    """The logger's INFO is in the log, the work directory is there, and a workspace is refused with a way."""
    project.python = python
    project.write(
        "steps.py",
        """
        import logging
        from dispatch import StepStateError, step

        @step(bind=True)
        def surroundings(self, configure: bool):
            if configure:
                logging.basicConfig(format="own %(message)s")
            self.logger.debug("unheard")
            self.logger.info("heard")
            logging.getLogger("library").info("unheard")
            try:
                self.workspace
            except StepStateError as error:
                return [str(self.work_dir), self.work_dir.is_dir(), str(error), error.remedy]
        """,
    )
    ended = project.run("surroundings", configure=False)
    assert (ended.exit_code, ended.stderr) == (0, "INFO steps.surroundings: heard\n")
    assert read_result(ended.result) == [
        project.places.work,
        True,
        "step 'it': has no workspace, as it runs in a process or container of its own",
        "take the results of other steps as arguments, and return what is to be kept",
    ]
    assert project.run("surroundings", configure=True).stderr == "own heard\n"


def test_a_step_without_a_logger_does_not_pay_for_it(project: Inside) -> None:
    """Logging, pathlib, typing, dataclasses and inspect are not loaded unless somebody uses them."""
    project.write(
        "steps.py",
        "import sys\nfrom dispatch import step\n@step()\ndef loaded(n: int = 1):\n"
        "    return sorted(sys.modules)\n",
    )
    loaded = read_result(project.run("loaded", n=2).result)
    unwanted = {"logging", "pathlib", "typing", "dataclasses", "inspect", "hashlib", "dispatch.identity"}
    assert unwanted.isdisjoint(loaded)


def test_a_result_that_its_format_cannot_hold_is_kept_aside(project: Inside) -> None:
    """The step has failed, but what it returned is pickled beside the outcome, and the message says where."""
    project.write(
        "steps.py",
        "from dispatch import step\n@step(format='text')\ndef odd(): return {'weights': (1, 2)}\n",
    )
    ended = project.run("odd")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    kept = Path(project.places.output, "quarantine", "data.pickle")
    assert f"what the step returned is kept as {kept} (output/quarantine of its attempt)" in ended.message
    assert pickle.loads(kept.read_bytes()) == {"weights": (1, 2)}
    assert not list(ended.result.iterdir())
    assert "Traceback" not in ended.stderr


INLINE = """
    import os
    from dispatch import Step, step

    @step(deterministic=False)
    def draw(low: int, data: dict = None):
        print("draw")
        return {"pid": os.getpid(), "low": low, "data": data}

    @Step.register("twice")
    class Twice(Step):
        DETERMINISTIC = False

        def run(self, x: dict):
            return [x, x["low"] * 2, self.unique_id, self.name]

    @step(deterministic=False)
    def stream():
        print("stream")
        yield from range(3)

    @step(deterministic=False)
    def breaks(x: object):
        return x / 0

    @step()
    def takes(a: object, b: object = None, c: object = None):
        return [a, b, c, os.getpid()]

    @step()
    def reads(a: object, b: object):
        return [list(a), list(b)]
"""


def inline(qualname: str, type_name: str = "", **arguments: Any) -> InlineTask:
    """What a job says of a step that runs inside another."""
    return InlineTask("steps", qualname, type_name or qualname, None, f"{qualname}-id", arguments)


@every_python
def test_steps_that_are_not_kept_run_inside_their_consumer(project: Inside, python: str) -> None:
    """They run in its process, once however often they are referred to, with references of their own."""
    project.python = python
    project.write("steps.py", INLINE)
    place = project.root / "in"
    place.mkdir()
    (place / "data.json").write_text('{"k": 1}')
    ended = project.run(
        "takes",
        inputs={"data": str(place)},
        inline={
            "numbers": inline("draw", low=3, data={"ref": "data"}),
            "double": inline("Twice", "twice", x={"ref": "numbers"}),
        },
        a={"ref": "numbers"},
        b=[{"ref": "double"}],
        c={"type": "ref", "ref": "numbers", "key": "low"},
    )
    assert (ended.exit_code, ended.stdout) == (0, "draw\n"), ended.stderr
    a, b, c, pid = read_result(ended.result)
    assert a == {"pid": pid, "low": 3, "data": {"k": 1}}
    assert b == [[a, 6, "Twice-id", "double"]]
    assert c == 3


def test_each_reference_to_an_iterator_has_its_own(project: Inside) -> None:
    """An iterator is computed once, and each who takes it sees all of it."""
    project.write("steps.py", INLINE)
    ended = project.run("reads", inline={"s": inline("stream")}, a={"ref": "s"}, b={"ref": "s"})
    assert (ended.exit_code, ended.stdout) == (0, "stream\n"), ended.stderr
    assert read_result(ended.result) == [[0, 1, 2], [0, 1, 2]]


def test_each_reference_to_a_stored_iterator_has_its_own(project: Inside) -> None:
    """A result that was streamed to disk is read anew for each argument."""
    project.write("steps.py", INLINE)
    stored = project.run("stream")
    kept = project.root / "kept"
    shutil.copytree(stored.result, kept)
    ended = project.run("reads", inputs={"s": str(kept)}, a={"ref": "s"}, b={"ref": "s"})
    assert read_result(ended.result) == [[0, 1, 2], [0, 1, 2]]


def test_a_failure_inside_names_the_step_that_failed(project: Inside) -> None:
    """Message and traceback lead to the step that runs inside, not to the one around it."""
    project.write("steps.py", INLINE)
    ended = project.run(
        "takes",
        inline={"bad": inline("breaks", x=1), "on": inline("Twice", "twice", x={"ref": "bad"})},
        a={"ref": "on"},
    )
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert ended.message == ("step 'bad', which runs inside this one: ZeroDivisionError: division by zero")
    assert "return x / 0" in ended.stderr
    assert str(project.runtime.directory) not in ended.stderr
    wrong = project.run("takes", inline={"bad": inline("draw", low="x")}, a={"ref": "bad"})
    assert wrong.message.startswith("step 'bad': argument 'low': expected int, got str 'x'")


def test_modules_that_arguments_need_are_imported(project: Inside) -> None:
    """A class that another module registers is known while the step's arguments are made."""
    project.write("base.py", "from dispatch import Registrable\nclass Model(Registrable): pass\n")
    project.write(
        "models.py",
        "from base import Model\n@Model.register('tiny')\nclass Tiny(Model):\n"
        "    def __init__(self, n: int = 1): self.n = n\n",
    )
    project.write(
        "steps.py",
        "from base import Model\nfrom dispatch import step\n@step()\ndef size(model: Model):\n"
        "    return model.n\n",
    )
    asked = {"s": {"type": "size", "arguments": {"model": {"type": "tiny", "n": 3}}}}
    described = project.describe(["steps", "models"], asked)["steps"]["s"]["ok"]
    assert described["modules"] == ["models"]
    ended = project.run("size", modules=described["modules"], model={"type": "tiny", "n": 3})
    assert ended.exit_code == 0, ended.stderr
    assert read_result(ended.result) == 3
    by_place = project.run("size", model={"type": "models.Tiny", "n": 4})
    assert read_result(by_place.result) == 4


def test_only_the_defining_module_is_imported(project: Inside) -> None:
    """Its neighbours may need what this image does not have."""
    project.write("pack/__init__.py", "")
    project.write("pack/torchy.py", "import no_such_library\n")
    project.write("pack/steps.py", STEPS)
    assert project.run("hello", module="pack.steps").exit_code == 0


def test_a_class_made_inside_a_function_is_found_by_its_name(project: Inside) -> None:
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


def test_a_module_that_does_not_import_is_the_steps_failure(project: Inside) -> None:
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
        ("lambda: 1", "function"),
        ("open(__file__)", "TextIOWrapper"),
    ],
)
def test_a_result_that_cannot_be_written_names_its_type(project: Inside, expression: str, kind: str) -> None:
    """A lambda or a file is a FormatError that says what it was; nothing is left behind."""
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
def test_a_step_that_exits_has_failed(project: Inside, call: str, own: int, shown: str) -> None:
    """There is no result, so the container's code is 1 whatever was asked; the outcome has the step's."""
    project.write("steps.py", f"import sys\nfrom dispatch import step\n@step()\ndef leaves(): {call}\n")
    ended = project.run("leaves")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert ended.outcome is not None
    assert ended.outcome.exit_code == own
    assert shown in ended.message
    assert "steps.py" in ended.stderr


def test_a_step_that_ends_its_process_leaves_no_outcome(project: Inside) -> None:
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
def test_any_exception_leaves_an_outcome(project: Inside, error: str) -> None:
    """Whatever is raised, with whatever text, is recorded within bounds."""
    project.write("steps.py", f"from dispatch import step\n@step()\ndef raises(): raise {error}\n")
    ended = project.run("raises")
    assert (ended.exit_code, ended.state) == (1, OutcomeState.FAILED)
    assert len(ended.message) <= 10_000
