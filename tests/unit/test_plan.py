"""What a run would do: identities of steps, and which of them have a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.environment import (
    BeakerImage,
    BuildSecret,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    Extras,
    ImageDeclaration,
    PipImage,
)
from dispatch.errors import ConfigurationError, SourceError
from dispatch.info import AttemptFacts, StepInfo, StepState
from dispatch.lock.model import (
    CondaLock,
    CondaPackage,
    DebianLock,
    DebianPackage,
    Lock,
    PipLock,
    PipPin,
    Target,
)
from dispatch.plan import Identities, ImageInputs, Standing, image_identity, needs_below
from dispatch.resources import StepResources
from dispatch.testing.plans import IDENTITIES, KnownResults
from dispatch.testing.plans import plan_steps as plan
from dispatch.testing.plans import unique_id_of as identity

SHELL: dict[str, Any] = {"type": "shell", "command": "make", "inputs": {"n": 3}, "paths": ["src"]}


SAME, OTHER = True, False


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"command": "make all"}, OTHER),
        ({"inputs": {"n": 4}}, OTHER),
        ({"inputs": {"n": 3.0}}, OTHER),
        ({"inputs": {"m": 3}}, OTHER),
        ({"inputs": {}}, OTHER),
        ({"paths": ["lib"]}, OTHER),
        ({"paths": []}, OTHER),
        ({"step_image": "other"}, OTHER),
        ({"step_env": {"A": "1"}}, OTHER),
        ({"step_network": "none"}, SAME),
        ({"step_resources": {"cpu_count": 2, "memory": "1GiB"}}, SAME),
    ],
)
def test_what_is_part_of_a_shell_step(change: dict[str, Any], same: bool) -> None:
    """Command, inputs, variables, image and tree make a shell step what it is; how it is run does not."""
    before, after = plan({"a": SHELL})["a"], plan({"a": {**SHELL, **change}})["a"]
    assert (identity(before) == identity(after)) is same


@pytest.mark.parametrize(
    ("identities", "same"),
    [
        (replace(IDENTITIES, image=lambda _: "renewed"), OTHER),
        (replace(IDENTITIES, tree=lambda _: "edited"), OTHER),
        (replace(IDENTITIES, code="edited"), SAME),
    ],
)
def test_what_a_shell_step_takes_from_outside(identities: Identities, same: bool) -> None:
    """The image's identity and the files of the declared paths are part of it; other code is not."""
    assert (identity(plan({"a": SHELL})["a"]) == identity(plan({"a": SHELL}, None, identities)["a"])) is same


def test_a_shell_step_without_paths_looks_at_no_files() -> None:
    """Where no paths are declared the tree is not asked for, and a path that is not there is an error."""

    def refuse(paths: tuple[str, ...]) -> str:
        raise SourceError(f"{paths[0]}: not in the repository")

    identities = replace(IDENTITIES, tree=refuse)
    plan({"a": {"type": "shell", "command": "true"}}, None, identities)
    with pytest.raises(SourceError, match="src: not in the repository"):
        plan({"a": SHELL}, None, identities)


def test_a_renamed_step_is_the_same_step() -> None:
    """The name of a step enters neither its own identity nor those behind it."""
    before = plan({"a": SHELL, "b": {"type": "train", "data": {"ref": "a"}}})
    after = plan({"x": SHELL, "b": {"type": "train", "data": {"ref": "x"}}})
    assert identity(before["a"]) == identity(after["x"])
    assert identity(before["b"]) == identity(after["b"])


@pytest.mark.parametrize(
    "behind", [{"type": "train", "data": {"ref": "a"}}, {**SHELL, "inputs": {"d": {"ref": "a"}}}]
)
def test_a_change_goes_through_to_what_is_behind(behind: dict[str, Any]) -> None:
    """Another dependency is another step, and records name the dependencies by unique id."""
    before = plan({"a": {"type": "load", "n": 1}, "b": behind})
    after = plan({"a": {"type": "load", "n": 2}, "b": behind})
    assert identity(before["b"]) != identity(after["b"])
    record = before["b"].record
    assert record is not None and record.dependencies == (identity(before["a"]),)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"version": "002"}, OTHER),
        ({"class_name": "Other"}, OTHER),
        ({"format": {"name": "json", "version": "001"}}, OTHER),
        ({"arguments": ["d", []]}, OTHER),
        ({"module": "elsewhere", "qualname": "Moved"}, SAME),
        ({"resources": {"cpu_count": 2}}, SAME),
        ({"deterministic": False}, SAME),
    ],
)
def test_what_is_part_of_a_python_step(change: dict[str, Any], same: bool) -> None:
    """Class, version, format and arguments make a Python step what it is; where its code lies does not."""
    steps = {"a": {"type": "load", "n": 1}}
    assert (identity(plan(steps)["a"]) == identity(plan(steps, {"a": change})["a"])) is same


@pytest.mark.parametrize(
    ("deterministic", "cacheable", "kept"),
    [
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
        (True, True, True),
        (False, False, False),
    ],
)
def test_whose_results_are_used_again(deterministic: bool, cacheable: bool | None, kept: bool) -> None:
    """Unless the class says so, deterministic steps are cached; a step that is not is never CACHED."""
    change = {"a": {"deterministic": deterministic, "cacheable": cacheable}}
    steps = {"a": {"type": "load"}}
    unique_id = identity(plan(steps, change)["a"])
    found = plan(steps, change, known=KnownResults({unique_id: None}))["a"]
    assert found.record is not None and found.record.cacheable is kept
    assert (found.standing, found.reason) == (
        (Standing.CACHED, "") if kept else (Standing.RUN, "its result is not kept")
    )


def test_what_is_not_known_until_an_image_is_built() -> None:
    """A step that nobody described is unknown, and so is all behind it, each with its reason."""
    steps = {
        "a": {"type": "load"},
        "b": {"type": "train", "data": {"ref": "a"}},
        "c": {**SHELL, "inputs": {"d": {"ref": "b"}}},
        "d": {"type": "other"},
    }
    found = plan(steps, {"a": None})
    assert [step.node.name for step in found.standing(Standing.UNKNOWN)] == ["a", "b", "c"]
    assert found["a"].reason == "image 'base' must be built to know"
    assert found["b"].reason == found["c"].reason == "a dependency is unknown"
    assert found["d"].standing is Standing.RUN
    assert all(step.record is None for step in found.standing(Standing.UNKNOWN))


@pytest.mark.parametrize(
    ("type", "recorded", "code", "reason"),
    [
        ("load", "then", "now", "source changed since"),
        ("load", "now", "now", ""),
        ("load", "", "now", ""),
        ("load", "then", "", ""),
        ("load", None, "now", ""),
        ("shell", "then", "now", ""),
    ],
)
def test_a_cached_step_of_other_code_says_so(type: str, recorded: str | None, code: str, reason: str) -> None:
    """A Python step's result may be older than its code; a shell step's files are part of what it is."""
    steps = {"a": {"type": "load"} if type == "load" else SHELL}
    identities = replace(IDENTITIES, code=code)
    record = plan(steps)["a"].record
    assert record is not None
    facts = None if recorded is None else AttemptFacts(StepState.COMPLETED, code=recorded)
    store = KnownResults({record.unique_id: StepInfo(record, StepState.COMPLETED, facts)})
    found = plan(steps, None, identities, store)["a"]
    assert (found.standing, found.reason) == (Standing.CACHED, reason)


def test_the_store_is_asked_once() -> None:
    """All steps whose results are kept are looked up together."""
    store = KnownResults()
    found = plan(
        {"a": SHELL, "b": {"type": "x"}, "c": {"type": "y"}}, {"c": {"cacheable": False}}, known=store
    )
    assert store.asked == [identity(found["a"]), identity(found["b"])]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({**SHELL, "inputs": {"a-b": 1, "a.b": 2}}, "inputs 'a-b' and 'a.b' are both DISPATCH_INPUT_A_B"),
        ({"type": "train", "x_y": {"ref": "a"}, "X_Y": {"ref": "a"}}, "are both DISPATCH_INPUT_X_Y"),
    ],
)
def test_inputs_that_would_share_a_variable(step: dict[str, Any], message: str) -> None:
    """A clash of names is refused before anything starts."""
    with pytest.raises(ConfigurationError, match=message):
        plan({"a": {"type": "load"}, "b": step})


def test_resources_are_the_configs_and_else_the_classs() -> None:
    """What config leaves open is what the class says it needs."""
    steps = {"a": {"type": "load", "step_resources": {"cpu_count": 1}}, "b": SHELL}
    found = plan(steps, {"a": {"resources": {"cpu_count": 4, "memory": "1GiB"}}})
    assert found["a"].resources == StepResources(cpu_count=1, memory="1GiB")
    assert found["b"].resources == StepResources()


def test_a_plan_of_many_steps() -> None:
    """Steps are found by name, and an unknown name is a KeyError."""
    found = plan({f"s{number}": {"type": "x", "n": number} for number in range(50)})
    assert found["s49"].node.name == "s49"
    assert found.targets == tuple(f"s{number}" for number in range(50))
    with pytest.raises(KeyError):
        found["other"]


TARGET = Target(python="3.11", glibc="2.36", architecture="x86_64")
PIP_LOCK = PipLock("base", TARGET, "inputs", (PipPin("numpy", "2.0", ("sha256:1",)),))
PIP = PipImage(
    Path("/here/sklearn.in"), Path("/here/sklearn.lock"), "base", "3.11", more=Extras(env=(("A", "1"),))
)
DEB = DebianPackage("dash", "1", "amd64", "0" * 64, 10, "pool/dash.deb", "bookworm")
DEBIAN_LOCK = DebianLock(("bookworm",), "amd64", 1, "inputs", (DEB,))
DEBIAN = DebianImage(("bookworm",), ("dash",), "amd64", 1, Path("/here/image.lock"))


def image(declaration: ImageDeclaration, lock: Lock | None, name: str = "image") -> str:
    """The identity of an environment."""
    return image_identity(Environment(name, declaration, Path("/here/dispatch.yml")), ImageInputs(lock))


@pytest.mark.parametrize(
    ("declaration", "lock", "same"),
    [
        (replace(PIP, requirements=Path("/there/x.in"), lock=Path("/there/x.lock")), PIP_LOCK, SAME),
        (replace(PIP, bytecode=False), PIP_LOCK, SAME),
        (PIP, replace(PIP_LOCK, inputs="comments"), SAME),
        (PIP, replace(PIP_LOCK, target=replace(PIP_LOCK.target, glibc="2.99", architecture="aarch64")), SAME),
        (PIP, replace(PIP_LOCK, pins=(PipPin("numpy", "2.1", ("sha256:1",)),)), OTHER),
        (PIP, replace(PIP_LOCK, pins=(PipPin("numpy", "2.0", ("sha256:2",)),)), OTHER),
        (replace(PIP, base="other"), PIP_LOCK, OTHER),
        (replace(PIP, python="3.12"), PIP_LOCK, OTHER),
        (replace(PIP, more=Extras(env=(("A", "2"),))), PIP_LOCK, OTHER),
        (DEBIAN, DEBIAN_LOCK, OTHER),
    ],
)
def test_what_makes_a_pip_image_what_it_is(declaration: ImageDeclaration, lock: Lock, same: bool) -> None:
    """What is installed on what counts; how files are called and whether bytecode is there does not."""
    assert (image(PIP, PIP_LOCK) == image(declaration, lock, "renamed")) is same


@pytest.mark.parametrize(
    ("declaration", "lock", "same"),
    [
        (replace(DEBIAN, lock=Path("/there/image.lock")), DEBIAN_LOCK, SAME),
        (DEBIAN, replace(DEBIAN_LOCK, inputs="comments"), SAME),
        (DEBIAN, replace(DEBIAN_LOCK, packages=(replace(DEB, path="pool/moved.deb"),)), SAME),
        (DEBIAN, replace(DEBIAN_LOCK, packages=(replace(DEB, architecture="arm64", sha256="1" * 64),)), SAME),
        (DEBIAN, replace(DEBIAN_LOCK, packages=(replace(DEB, version="99"),)), OTHER),
        (replace(DEBIAN, env=(("A", "1"),)), DEBIAN_LOCK, OTHER),
    ],
)
def test_what_makes_a_debian_image_what_it_is(declaration: ImageDeclaration, lock: Lock, same: bool) -> None:
    """Packages count by name and version; their platform, and where an archive keeps them, do not."""
    assert (image(DEBIAN, DEBIAN_LOCK) == image(declaration, lock, "renamed")) is same


def test_what_makes_a_docker_image_what_it_is() -> None:
    """An image that exists already is its reference."""
    assert image(DockerImage("debian:12"), None) == image(DockerImage("debian:12"), None, "renamed")
    assert image(DockerImage("debian:12"), None) != image(DockerImage("debian:13"), None)


def test_what_makes_an_image_of_beaker_what_it_is() -> None:
    """What it is called there; one of Docker under the same name is another."""
    assert image(BeakerImage("ai2/conda"), None) == image(BeakerImage("ai2/conda"), None, "renamed")
    assert image(BeakerImage("ai2/conda"), None) != image(BeakerImage("ai2/other"), None)
    assert image(BeakerImage("ai2/conda"), None) != image(DockerImage("ai2/conda"), None)


CONDA_LOCK = CondaLock(
    "linux-64",
    (("__glibc", "2.36"),),
    "inputs",
    (CondaPackage("python", "3.11.4", "h1_0", "c", "linux-64", "python.conda", "0" * 64, 1),),
)
CONDA = CondaImage(
    Path("/here/environment.yml"), Path("/here/e.lock"), "base", more=Extras(env=(("A", "1"),))
)
STEPS = DockerfileImage(None, None, "base", more=Extras(apt=("git",), run=("a", "b")))


@pytest.mark.parametrize(
    ("declaration", "inputs", "same"),
    [
        (replace(CONDA, file=Path("/x.yml"), bytecode=False), ImageInputs(CONDA_LOCK), SAME),
        (CONDA, ImageInputs(replace(CONDA_LOCK, platform="linux-aarch64", inputs="x")), SAME),
        (CONDA, ImageInputs(replace(CONDA_LOCK, packages=())), OTHER),
        (replace(CONDA, base="other"), ImageInputs(CONDA_LOCK), OTHER),
        (CONDA, ImageInputs(CONDA_LOCK, below="below"), OTHER),
        (CONDA, ImageInputs(CONDA_LOCK, content="files"), OTHER),
        (replace(CONDA, more=Extras(env=(("A", "1"),), user="app")), ImageInputs(CONDA_LOCK), OTHER),
    ],
)
def test_what_makes_a_conda_image_what_it_is(
    declaration: ImageDeclaration, inputs: ImageInputs, same: bool
) -> None:
    """Packages by name and version, what is below and beside them, and who runs in it."""
    there = Environment("renamed", declaration, Path("/there/dispatch.yml"))
    assert (image(CONDA, CONDA_LOCK) == image_identity(there, inputs)) is same


@pytest.mark.parametrize(
    ("declaration", "inputs", "same"),
    [
        (replace(STEPS, secrets=(BuildSecret("x"),)), ImageInputs(), SAME),
        (replace(STEPS, more=Extras(apt=("git",), run=("b", "a"))), ImageInputs(), OTHER),
        (replace(STEPS, more=Extras(apt=("curl",), run=("a", "b"))), ImageInputs(), OTHER),
        (replace(STEPS, base="other"), ImageInputs(), OTHER),
        (STEPS, ImageInputs(below="below"), OTHER),
        (replace(STEPS, file=Path("Dockerfile"), context=Path()), ImageInputs(content="x"), OTHER),
    ],
)
def test_what_makes_an_image_of_steps_what_it_is(
    declaration: ImageDeclaration, inputs: ImageInputs, same: bool
) -> None:
    """The steps in their order, what they begin from and the files they see; secrets never."""
    there = Environment("renamed", declaration, Path("/there/dispatch.yml"))
    assert (image(STEPS, None) == image_identity(there, inputs)) is same


@pytest.mark.parametrize(
    ("name", "declaration", "enters"),
    [
        ("debian-python", DEBIAN, False),
        ("it+apt", DEBIAN, True),
        ("u:1", DockerImage("u:1"), False),
        ("tools", STEPS, True),
        ("it+conda", CONDA, True),
        ("env", CONDA, True),
    ],
)
def test_which_bases_are_taken_by_their_name(name: str, declaration: ImageDeclaration, enters: bool) -> None:
    """A base made for being one counts by its name; what a declaration implies counts by what it is."""
    assert needs_below(Environment(name, declaration, Path("/here"))) is enters
