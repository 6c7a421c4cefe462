"""Describing steps, in real processes, under every Python that is at hand."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from dispatch.runtime.outcome import timestamp
from dispatch.testing.inside import STEPS, Inside, interpreters

PYTHONS = interpreters()
every_python = pytest.mark.parametrize("python", list(PYTHONS.values()), ids=list(PYTHONS))


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
        "cacheable": None,
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


@every_python
def test_a_type_may_be_the_place_of_its_class(project: Inside, python: str) -> None:
    """Its module is imported and none of the packages, and the class keeps the identity it has by name."""
    project.python = python
    project.write("pack/__init__.py", "")
    project.write("pack/steps.py", STEPS)
    project.write(
        "pack/nameless.py", "from dispatch import Step\nclass Plain(Step):\n    def run(self): ...\n"
    )
    project.write("pack/torchy.py", "raise RuntimeError('imported')\n")
    data = {"data": {"ref": "x"}}
    places: dict[str, dict[str, Any]] = {
        "a": {"type": "pack.steps.Train", "arguments": data},
        "b": {"type": "pack.nameless.Plain"},
    }
    answer = project.describe(["pack"], places)
    assert answer["packages"] == {}
    assert [answer["steps"][name]["ok"]["type"] for name in "ab"] == ["nested.train", "pack.nameless.Plain"]
    named = project.describe(["pack"], {"a": {"type": "nested.train", "arguments": data}})
    assert named["steps"]["a"] == answer["steps"]["a"]
    assert named["packages"]["pack.torchy"]["error"] == "RuntimeError: imported"


@pytest.mark.parametrize(
    ("type_name", "kind", "part", "noted"),
    [
        ("pack.steps.Trian", "step", "module pack.steps has no 'Trian', did you mean 'Train'?", None),
        ("pack.stpes.Train", "step", "module pack has no 'stpes', did you mean 'steps'?", None),
        ("pack.torchy.Train", "import", "pack.torchy cannot be imported: ModuleNotFoundError", "pack.torchy"),
        ("pakc.steps.Train", "unknown_type", "there is no module 'pakc'", "pakc"),
        ("pack.steps.NoStep", "step", "is no Step, but a type", None),
        ("registered", "step", "is registered with a class that is no Step", None),
        ("nested.trian", "unknown_type", "did you mean 'nested.train'", "nested"),
    ],
)
def test_a_place_that_is_wrong(
    project: Inside, type_name: str, kind: str, part: str, noted: str | None
) -> None:
    """What was tried is said; a module that did not import is noted, since it may in another image."""
    more = "\n    class NoStep: pass\n    Step.register('registered')(NoStep)\n"
    project.write("pack/__init__.py", "")
    project.write("pack/steps.py", STEPS + more)
    project.write("pack/torchy.py", "import no_such_library\n")
    answer = project.describe(["pack.steps"], {"s": {"type": type_name}})
    error = answer["steps"]["s"]["error"]
    assert (error["kind"], error["argument"]) == (kind, None)
    assert part in error["message"]
    failed = [name for name, failure in answer["packages"].items() if failure is not None]
    assert failed == ([noted] if noted else [])


def test_names_in_arguments_may_need_the_packages(project: Inside) -> None:
    """A registered argument is looked for in the packages; one that is not found may be known elsewhere."""
    project.write("base.py", "from dispatch import Registrable\nclass Model(Registrable): pass\n")
    project.write("pack/__init__.py", "")
    project.write(
        "pack/tiny.py", "from base import Model\n@Model.register('tiny')\nclass Tiny(Model): pass\n"
    )
    project.write("pack/torchy.py", "import no_such_library\n")
    project.write(
        "steps.py",
        "from base import Model\nfrom dispatch import Lazy, step\n@step()\n"
        "def size(model: Lazy[Model]): return 1\n",
    )
    asked = {
        name: {"type": "steps.size", "arguments": {"model": {"type": name}}}
        for name in ("tiny", "huge", "pack.torchy.Huge", "pack.tiny.Huge")
    }
    answer = project.describe(["pack"], asked)["steps"]
    assert answer["tiny"]["ok"]["modules"] == ["pack.tiny"]
    found = {
        name: (answer[name]["error"]["kind"], answer[name]["error"]["absent"]) for name in list(asked)[1:]
    }
    assert found == {
        "huge": ("argument", True),
        "pack.torchy.Huge": ("import", True),
        "pack.tiny.Huge": ("argument", False),
    }
    assert answer["huge"]["error"]["argument"] == "model.type"


def test_describe_survives_what_a_module_does_when_it_is_asked_for(project: Inside) -> None:
    """A class that is registered ahead, whose module does not import, is that step's error alone."""
    project.write(
        "steps.py",
        textwrap.dedent(STEPS) + "Step.register_lazy('late', 'late_module:Late')\n",
    )
    project.write("late_module.py", "import no_such_library\n")
    answer = project.describe(["steps"], {"a": {"type": "late"}, "b": {"type": "hello"}})["steps"]
    assert "ok" in answer["b"]
    assert "ModuleNotFoundError: No module named 'no_such_library'" in answer["a"]["error"]["message"]


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
