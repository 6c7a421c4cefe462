"""Describing steps, in real processes, under every Python that is at hand."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from dispatch.runtime.outcome import timestamp
from dispatch.testing.inside import Inside, interpreters

PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))

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


@every_python
def test_describe_answers_for_each_step(project: Inside, python: str) -> None:
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
        "requires": [],
        "arguments": ["d", [[["s", "n"], ["i", "2"]], [["s", "name"], ["s", "you"]]]],
        "modules": [],
        "metadata": {},
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
    project: Inside, step: dict[str, Any], kind: str, argument: str | None, part: str
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


def test_describe_imports_whole_packages_and_keeps_failures(project: Inside) -> None:
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


def test_describe_ends_although_a_package_left_threads(project: Inside) -> None:
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
