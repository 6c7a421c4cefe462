"""What ``dispatch`` exports, what importing it costs, and what is there inside a container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dispatch
from dispatch.payload import sources

ROOT = Path(__file__).parents[2]

FIXED = [
    *("Step", "step", "StepGraph", "StepResources", "StepInfo", "StepState", "StepCache", "StepStateError"),
    *("Workspace", "Run", "RunInfo", "Executor", "Registrable", "FromParams", "Params", "Lazy"),
    *("Format", "JsonFormat", "DillFormat", "TextFormat", "BytesFormat", "PickleFormat"),
]

# Standard library only, and of it nothing that is slow to import.
FRUGAL = """
import sys
before = set(sys.modules)
{statement}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}} - {{"dispatch"}}
print(*sorted(loaded))
"""


def run(code: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds ``dispatch`` in ``directory`` and no installed package."""
    script = f"import sys; sys.path.insert(0, {str(directory)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=False
    )


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A directory that holds of the package only what travels into containers."""
    for name, content in sources().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "lib"


def test_the_fixed_names_are_exported() -> None:
    """The names that users were promised are there, and only they."""
    assert sorted(dispatch.__all__) == sorted(FIXED)
    assert set(FIXED) <= set(dir(dispatch))
    assert dispatch.__version__


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("dispatch.workspaces", ["LocalWorkspace", "MemoryWorkspace"]),
        (
            "dispatch.workspace",
            [
                *(
                    "Workspace",
                    "StepCache",
                    "Run",
                    "RunInfo",
                    "RunSort",
                    "StepInfo",
                    "StepInfoSort",
                    "StepState",
                ),
                *("LocalWorkspace", "MemoryWorkspace", "MemoryStepCache", "Attempt"),
            ],
        ),
    ],
)
def test_where_workspaces_are_found(module: str, names: list[str]) -> None:
    """The modules of the workspaces have what users of them import, and say so."""
    code = f"import {module} as found\nprint(*sorted(found.__all__))\nfrom {module} import {', '.join(names)}"
    result = run(code)
    assert result.stdout.split() == sorted(names), result.stderr


@pytest.mark.parametrize("name", FIXED)
def test_every_name_can_be_imported_first(name: str) -> None:
    """Each export works in a fresh interpreter, whatever was imported before it."""
    found = run(f"from dispatch import {name}\nassert callable({name}), {name}\nassert {name}.__doc__")
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "from dispatch import step",
        "from dispatch import Step, step",
        "import dispatch.step\nfrom dispatch import step",
        "from dispatch.step import step",
        "import dispatch.step as step",
        "import dispatch.graph, dispatch\nstep = dispatch.step",
    ],
)
def test_step_is_the_decorator_in_whatever_order_things_are_imported(imports: str) -> None:
    """``dispatch.step`` is a module and a decorator; neither hides the other."""
    code = f"{imports}\n@step('x')\ndef f(a=1): return a\nprint(f().run(a=2))\nimport dispatch.step\n"
    code += "from dispatch.step import Step\n"
    code += "assert sys.modules['dispatch.step'].Step is Step and issubclass(f, Step)"
    found = run(code)
    assert found.stdout == "2\n", found.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not exported is missing in the usual way."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = dispatch.Nothing


def test_importing_the_package_loads_nothing_else() -> None:
    """``import dispatch`` costs nothing: names are loaded when they are used."""
    assert run(FRUGAL.format(statement="import dispatch")).stdout.split() == ["__future__"]


def test_importing_what_steps_need_is_cheap() -> None:
    """Neither steps nor their arguments load what costs more than all of them."""
    loaded = run(FRUGAL.format(statement="from dispatch import Step, step, Format")).stdout.split()
    assert "re" in loaded
    assert not {"typing", "dataclasses", "inspect", "logging", "pathlib", "asyncio", "hashlib"} & set(loaded)


def test_what_travels_needs_the_standard_library_alone(container: Path) -> None:
    """Every module that travels imports where nothing is installed, and brings no other package."""
    paths = [path.relative_to(container).with_suffix("") for path in container.rglob("*.py")]
    modules = sorted(".".join(part for part in path.parts if part != "__init__") for path in paths)
    statement = "import " + ", ".join(modules)
    found = run(FRUGAL.format(statement=statement), container)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", [name for name in FIXED if name != "Executor"])
def test_inside_a_container_steps_find_what_they_need(name: str, container: Path) -> None:
    """All exports but those of the client work with the part of the package that travels."""
    found = run(f"from dispatch import {name}", container)
    assert found.returncode == 0, found.stderr


def test_inside_a_container_the_clients_names_say_why_they_are_missing(container: Path) -> None:
    """A name that does not travel is an ImportError that tells where to import it instead."""
    found = run(
        "try:\n from dispatch import Executor\nexcept ImportError as error:\n print(error)", container
    )
    assert "dispatch.Executor is not there inside a step's container" in found.stdout
    assert "on the client" in found.stdout
