"""Who is asked what a step is, what is kept of the answers, and how a refusal reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.describe import CodeBase, Describer, Question
from dispatch.errors import ConfigurationError
from dispatch.graph import StepNode, StepOptions

CODE = CodeBase(("digits",), ("/src",), "python", "runtime")
NUMPY_PAGE = """ImportError:

IMPORTANT: PLEASE READ THIS FOR ADVICE ON HOW TO SOLVE THIS ISSUE!

Importing the numpy C-extensions failed. This error can happen for many reasons.

Original error was: libopenblas.so.0: cannot open shared object file
"""


def question(
    name: str, image: str | None = "sklearn", digest: str | None = "sha256:1", **changes: Any
) -> Question:
    """A step to describe, of a type called as the step."""
    return Question(StepNode(name, changes.pop("type", name), {"C": 1.0}, (), **changes), image, digest)


def described(name: str) -> dict[str, Any]:
    """The answer for a step that was found."""
    return {
        "ok": {
            "class": name.title(),
            "module": "digits.steps",
            "qualname": name.title(),
            "type": name,
            "version": None,
            "deterministic": True,
            "cacheable": None,
            "format": {"name": "auto", "version": "001"},
            "arguments": ["d", []],
            "resources": None,
        }
    }


def refused(kind: str, message: str, remedy: str = "mend it") -> dict[str, Any]:
    """The answer for a step that was not."""
    return {"error": {"kind": kind, "argument": None, "message": message, "remedy": remedy}}


def failure(error: str) -> dict[str, Any]:
    """What is said of a package that did not import."""
    return {"error": error, "missing": None, "traceback": ""}


class FakeOracle:
    """Answers by interpreter: ``client`` and each image know the types that they list.

    ``errors`` are answers of an interpreter for a step, ``failures`` its packages that did not import.
    """

    def __init__(self, **types: tuple[str, ...]) -> None:
        self.types = types
        self.errors: dict[tuple[str, str], dict[str, Any]] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.deaf = False
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def on_client(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Answer as the client's interpreter."""
        return None if self.deaf else self._answer("client", request)

    def in_image(self, image: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer as an image's."""
        return self._answer(image, request)

    def _answer(self, who: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((who, tuple(request["steps"])))
        known = self.types.get(who, ())
        return {
            "contract": 1,
            "interpreter": "3.11.2",
            "packages": {"digits": None, **self.failures.get(who, {})},
            "types": list(known),
            "steps": {
                name: self.errors.get((who, name))
                or (described(name) if step["type"] in known else refused("unknown_type", "unknown"))
                for name, step in request["steps"].items()
            },
        }


MISSING = {"digits.steps": failure("ModuleNotFoundError: No module named 'sklearn'")}


def test_the_client_answers_where_it_can(tmp_path: Path) -> None:
    """When the steps' modules import here, no image is asked, and all steps are asked about at once."""
    oracle = FakeOracle(client=("load", "train"))
    found = Describer(tmp_path, CODE, oracle).describe([question("load"), question("train", "plots")])
    assert [found[name].class_name for name in ("load", "train")] == ["Load", "Train"]
    assert oracle.asked == [("client", ("load", "train"))]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """With all answers kept nobody is asked, and they are the same."""
    questions = [question("load"), question("train")]
    first = Describer(tmp_path, CODE, FakeOracle(client=("load", "train"))).describe(questions)
    oracle = FakeOracle()
    assert Describer(tmp_path, CODE, oracle).describe(questions) == first
    assert oracle.asked == []


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        (replace(CODE, python_digest="other"), question("load")),
        (replace(CODE, runtime="other"), question("load")),
        (replace(CODE, packages=("digits", "more")), question("load")),
        (replace(CODE, paths=("/src/sub",)), question("load")),
        (CODE, question("load", digest="sha256:2")),
        (CODE, question("load", options=StepOptions(format="json"))),
        (CODE, replace(question("load"), node=StepNode("load", "load", {"C": 2.0}))),
    ],
)
def test_what_an_answer_depends_on(tmp_path: Path, code: CodeBase, changed: Question) -> None:
    """A change of code, runtime, image or declaration asks again."""
    oracle = FakeOracle(client=("load",))
    Describer(tmp_path, CODE, oracle).describe([question("load")])
    Describer(tmp_path, code, oracle).describe([changed])
    assert len(oracle.asked) == 2


def test_the_name_of_a_step_is_no_part_of_the_answer(tmp_path: Path) -> None:
    """A step that is renamed, or moved to another name of the same image, is not asked about again."""
    oracle = FakeOracle(client=("load",))
    Describer(tmp_path, CODE, oracle).describe([question("load")])
    found = Describer(tmp_path, CODE, oracle).describe([question("other", "alias", type="load")])
    assert found["other"].type == "load"
    assert len(oracle.asked) == 1


def test_an_image_whose_digest_is_not_known_is_asked_each_time(tmp_path: Path) -> None:
    """Without the image's digest no answer can be kept."""
    oracle = FakeOracle(client=("load",))
    for _ in range(2):
        Describer(tmp_path, CODE, oracle).describe([question("load", digest=None)])
    assert len(oracle.asked) == 2
    assert not list(tmp_path.iterdir())


def test_without_an_image_the_current_environment_decides(tmp_path: Path) -> None:
    """It is asked each time, since nothing says whether it changed, and nothing is kept of its answer."""
    oracle = FakeOracle(client=("load",), sklearn=("load", "train"))
    questions = [question("load", None), question("train")]
    oracle.failures["client"] = MISSING
    for _ in range(2):
        found = Describer(tmp_path, CODE, oracle).describe(questions)
        assert set(found) == {"load", "train"}
    assert oracle.asked == [
        ("client", ("load", "train")),
        ("sklearn", ("train",)),
        ("client", ("load",)),
    ]


@pytest.mark.parametrize("may_build", [True, False])
def test_what_the_current_environment_does_not_know_is_an_error(tmp_path: Path, may_build: bool) -> None:
    """No image is asked; what did not import is said, with the two ways out."""
    oracle = FakeOracle(sklearn=("train",))
    oracle.failures["client"] = MISSING
    with pytest.raises(ConfigurationError) as caught:
        Describer(tmp_path, CODE, oracle).describe([question("train", None)], may_build=may_build)
    assert caught.value.message.splitlines() == [
        "step 'train': unknown step type 'train'",
        "  registered: none",
        "  'digits.steps' did not import here: ModuleNotFoundError: No module named 'sklearn'",
    ]
    assert "install what is missing in the current environment, or name an image" in caught.value.remedy
    oracle.deaf = True
    with pytest.raises(ConfigurationError, match="the current environment's Python broke off") as caught:
        Describer(tmp_path, CODE, oracle).describe([question("train", None)], may_build=may_build)
    assert [who for who, _ in oracle.asked] == ["client"]


@pytest.mark.parametrize(
    ("kind", "absent", "failures", "elsewhere"),
    [
        ("import", True, {}, True),
        ("argument", True, MISSING, True),
        ("argument", True, {}, False),
        ("argument", False, MISSING, False),
        ("step", True, MISSING, True),
        ("step", False, MISSING, False),
    ],
)
def test_who_may_know_what_this_interpreter_does_not(
    tmp_path: Path, kind: str, absent: bool, failures: dict[str, Any], elsewhere: bool
) -> None:
    """A name that is not known is asked in the image where something, or the name itself, did not import."""
    oracle = FakeOracle(client=("train",), sklearn=("train",))
    oracle.failures["client"] = failures
    answer = refused(kind, "step 'train': argument 'model.type': Model: no 'mlp' is registered", "mend it")
    answer["error"]["absent"] = absent
    oracle.errors["client", "train"] = answer
    if elsewhere:
        assert "train" in Describer(tmp_path, CODE, oracle).describe([question("train")])
        oracle.errors["sklearn", "train"] = answer
        oracle.failures["sklearn"] = failures
    with pytest.raises(ConfigurationError) as caught:
        Describer(tmp_path / "empty", CODE, oracle).describe([question("train")])
    shown = bool(failures) and absent
    assert ("'digits.steps' did not import in this image" in caught.value.message) is shown
    assert caught.value.remedy.startswith("mend it")


def test_a_description_holds_what_records_and_jobs_need(tmp_path: Path) -> None:
    """Metadata, modules and requirements come through the cache; an answer without them has none."""
    oracle = FakeOracle(client=("load", "train"))
    answer = described("train")
    answer["ok"].update(requires=["dill"], modules=["digits.models"], metadata={"owner": "me"})
    oracle.errors["client", "train"] = answer
    for _ in range(2):
        found = Describer(tmp_path, CODE, oracle).describe([question("load"), question("train")])
        train, load = found["train"], found["load"]
        assert (train.requires, train.modules, train.metadata) == (
            ("dill",),
            ("digits.models",),
            {"owner": "me"},
        )
        assert (load.requires, load.modules, load.metadata) == ((), (), {})
    assert len(oracle.asked) == 1


@pytest.mark.parametrize("deaf", [False, True])
def test_each_image_is_asked_once_for_all_its_steps(tmp_path: Path, deaf: bool) -> None:
    """What the client cannot import, or if it cannot be asked at all, goes to the steps' own images."""
    oracle = FakeOracle(client=("load",), sklearn=("train", "test", "load"), plots=("plot",))
    oracle.failures["client"] = MISSING
    oracle.deaf = deaf
    questions = [question("load"), question("train"), question("plot", "plots"), question("test")]
    found = Describer(tmp_path, CODE, oracle).describe(questions)
    assert set(found) == {"load", "train", "plot", "test"}
    assert [who for who, _ in oracle.asked] == (
        ["sklearn", "plots"] if deaf else ["client", "sklearn", "plots"]
    )
    assert dict(oracle.asked)["sklearn"] == (("load", "train", "test") if deaf else ("train", "test"))


def test_a_dry_run_leaves_out_what_only_an_image_knows(tmp_path: Path) -> None:
    """Without leave to build, the client's answers are all there is."""
    oracle = FakeOracle(client=("load",), sklearn=("train",))
    oracle.failures["client"] = MISSING
    questions = [question("load"), question("train")]
    assert set(Describer(tmp_path, CODE, oracle).describe(questions, may_build=False)) == {"load"}
    assert oracle.asked == [("client", ("load", "train"))]


def test_a_step_whose_own_code_imports_late(tmp_path: Path) -> None:
    """A class that imports its library only when asked is no fault where the library is only in the image."""
    oracle = FakeOracle(client=("train",), sklearn=("train",))
    message = "step 'train': ModuleNotFoundError: No module named 'sklearn'"
    oracle.errors["client", "train"] = refused("step", message)
    assert "train" in Describer(tmp_path, CODE, oracle).describe([question("train")])
    oracle.errors["sklearn", "train"] = refused("step", message)
    with pytest.raises(ConfigurationError, match="No module named 'sklearn'"):
        Describer(tmp_path / "empty", CODE, oracle).describe([question("train")])


@pytest.mark.parametrize(
    ("kind", "message", "shown"),
    [
        ("argument", "step 'train': argument 'C': is missing", "step 'train': argument 'C': is missing"),
        ("argument", "argument 'C': is missing", "step 'train': argument 'C': is missing"),
        ("step", "step 'train': VERSION: is no text", "step 'train': VERSION: is no text"),
    ],
)
def test_errors_are_shown_at_once_and_never_kept(tmp_path: Path, kind: str, message: str, shown: str) -> None:
    """A wrong argument needs no image to be wrong; after it is mended the step is asked about again."""
    oracle = FakeOracle(client=("train",))
    oracle.errors["client", "train"] = refused(kind, message)
    with pytest.raises(ConfigurationError) as caught:
        Describer(tmp_path, CODE, oracle).describe([question("train")])
    assert (caught.value.message, caught.value.remedy) == (shown, "mend it")
    oracle.errors.clear()
    assert "train" in Describer(tmp_path, CODE, oracle).describe([question("train")])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"class": "A"}', "[" * 100_000])
def test_an_unreadable_answer_is_asked_again(tmp_path: Path, content: str) -> None:
    """What was cut off or comes from elsewhere is a missing answer, and is written anew."""
    oracle = FakeOracle(client=("load",))
    Describer(tmp_path, CODE, oracle).describe([question("load")])
    (entry,) = tmp_path.iterdir()
    good = entry.read_text()
    entry.write_text(content)
    Describer(tmp_path, CODE, oracle).describe([question("load")])
    assert len(oracle.asked) == 2
    assert entry.read_text() == good


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The answer is used all the same."""
    (tmp_path / "file").write_text("")
    describer = Describer(tmp_path / "file", CODE, FakeOracle(client=("load",)))
    assert "load" in describer.describe([question("load")])


def test_an_unknown_type(tmp_path: Path) -> None:
    """The registered types are listed, the nearest one is proposed, and no image is asked in vain."""
    oracle = FakeOracle(client=("train", "load"))
    with pytest.raises(ConfigurationError) as caught:
        Describer(tmp_path, CODE, oracle).describe([question("trian")])
    assert caught.value.message == (
        "step 'trian': unknown step type 'trian', did you mean 'train'?\n  registered: load, train"
    )
    assert "include_package" in caught.value.remedy
    assert [who for who, _ in oracle.asked] == ["client"]


def test_an_unknown_type_where_packages_did_not_import(tmp_path: Path) -> None:
    """Failures are said once for all packages that share them, and a page is cut to its two telling lines."""
    oracle = FakeOracle()
    oracle.failures["client"] = MISSING
    oracle.failures["sklearn"] = {
        **{
            f"digits.m{number}": failure("ModuleNotFoundError: No module named 'torch'")
            for number in range(9)
        },
        "digits.a": failure(NUMPY_PAGE),
        "digits.b": failure(NUMPY_PAGE),
        "digits.c": failure(""),
    }
    with pytest.raises(ConfigurationError) as caught:
        Describer(tmp_path, CODE, oracle).describe([question("train")])
    assert caught.value.message.splitlines() == [
        "step 'train': unknown step type 'train'",
        "  registered: none",
        "  'digits.m0', 'digits.m1', 'digits.m2' and 6 more did not import in this image: "
        "ModuleNotFoundError: No module named 'torch'",
        "  'digits.a', 'digits.b' did not import in this image: "
        "ImportError: … Original error was: libopenblas.so.0: cannot open shared object file",
        "  'digits.c' did not import in this image: ",
    ]
