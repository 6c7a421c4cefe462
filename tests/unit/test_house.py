"""The rules of the house that no linter knows: what is imported where, how large things are, what is said."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dispatch
from dispatch import payload
from dispatch.cli.__main__ import COMMANDS

PACKAGE = Path(dispatch.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
OLDEST = (3, 9)

# One child for each module, forked from an interpreter that has loaded next to nothing.
IMPORT_EACH = """
import importlib, os, sys, traceback
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
print(*failed)
"""

# Functions that may take more than six arguments: the names of the ancestor's, and one for each option.
WIDE = {
    ("step.py", "step"),
    ("step.py", "__init__"),
    ("cli/run.py", "command"),
    ("cli/build.py", "command"),
    # The parameters of the ancestor.
    ("beaker/executor.py", "__init__"),
}
LONGEST = 60
WIDEST = 6


@cache
def tree_of(path: Path) -> ast.Module:
    """A module's syntax."""
    return ast.parse(path.read_text("utf-8"))


def place_of(path: Path) -> str:
    """A module's path inside the package."""
    return path.relative_to(PACKAGE).as_posix()


def name_of(path: Path) -> str:
    """A module's name for import."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def public(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Every class, function and method whose name, and whose class's name, has no leading underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    waiting: list[ast.stmt] = [*tree_of(path).body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            waiting += node.body if isinstance(node, ast.ClassDef) else []


def uses(path: Path, owner: str, attribute: str) -> bool:
    """Whether a module names an attribute of a module, as in ``os.environ``."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in ast.walk(tree_of(path))
    )


def test_every_module_imports_first() -> None:
    """No module needs another to have been imported before it."""
    names = [name_of(path) for path in MODULES if path.stem != "__main__" and path.name != "main.py"]
    workers = os.cpu_count() or 1
    running = [
        subprocess.Popen(
            [sys.executable, "-c", IMPORT_EACH, *names[worker::workers]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for worker in range(workers)
    ]
    for process in running:
        out, err = process.communicate()
        assert (out.split(), process.returncode) == ([], 0), err


def travelling() -> list[str]:
    """The names of the modules that are mounted into containers."""
    files = [name for name in payload.sources() if name.startswith("lib/")]
    names = [name.removeprefix("lib/").removesuffix(".py").replace("/", ".") for name in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime directory, as containers see it."""
    return payload.provide(tmp_path_factory.mktemp("cache")).directory


def interpreters() -> list[str]:
    """This interpreter, and the oldest supported one if this machine has it."""
    version = ".".join(str(part) for part in OLDEST)
    homes = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    found = [*map(str, sorted(homes)), shutil.which(f"python{version}")]
    # A name on the path may be a shim that has no interpreter behind it.
    old = [
        path for path in found if path and subprocess.run([path, "-V"], capture_output=True).returncode == 0
    ]
    return [sys.executable, *old[:1]]


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_what_travels_loads_the_standard_library_alone(python: str, runtime: Path) -> None:
    """All of it imports where nothing is installed, on the oldest supported Python, too."""
    names = travelling()
    code = (
        "import sys, importlib\nbefore = set(sys.modules)\n"
        f"sys.path.insert(0, {str(runtime / 'lib')!r})\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    found = subprocess.run([python, "-S", "-E", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) <= {*sys.stdlib_module_names, "dispatch"}
    assert "dispatch.runtime.run" in names
    assert "dispatch.workspace.local" in names


def annotations_of(tree: ast.Module) -> Iterator[ast.expr]:
    """Every annotation of a module."""
    for node in ast.walk(tree):
        written = (getattr(node, "annotation", None), getattr(node, "returns", None))
        yield from (each for each in written if isinstance(each, ast.expr))


def test_what_travels_is_written_for_the_oldest_python() -> None:
    """Every file of it parses as that version's syntax, whatever interpreters this machine has."""
    for name, source in payload.sources().items():
        tree = ast.parse(source, name, feature_version=OLDEST)
        if any(isinstance(part, ast.BinOp) for note in annotations_of(tree) for part in ast.walk(note)):
            assert b"from __future__ import annotations" in source, name


def executed_lines(path: Path) -> int:
    """Lines of code, without docstrings, comments and what only type checkers read."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if ast.get_docstring(node):
                node.body = node.body[1:]
            node.body = [each for each in node.body if not _for_type_checkers(each)] or [ast.Pass()]
    return len(ast.unparse(tree).splitlines())


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


def test_what_travels_is_small() -> None:
    """What a step's start loads of ours is at most 1 500 lines of code."""
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import dispatch.runtime.run;"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'dispatch'), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-S", "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert sum(executed_lines(Path(place)) for place in loaded.stdout.splitlines()) <= 1500


def test_every_module_says_what_it_owns() -> None:
    """Each has a docstring."""
    assert [place_of(path) for path in MODULES if not ast.get_docstring(tree_of(path))] == []


def test_every_public_name_is_documented() -> None:
    """Each public class, function and method has a docstring; what overrides another says so."""
    bare = [
        f"{place_of(path)}: {node.name}"
        for path in MODULES
        for node in public(path)
        if not ast.get_docstring(node)
    ]
    assert bare == []


def test_functions_stay_small() -> None:
    """None is longer than 60 lines or takes more than six arguments, but the few that are named here."""
    long, wide = [], set()
    for path in MODULES:
        for node in functions(path):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if (node.end_lineno or 0) - node.lineno + 1 > LONGEST:
                long.append(f"{place_of(path)}: {node.name}")
            if len([name for name in names if name not in ("self", "cls")]) > WIDEST:
                wide.add((place_of(path), node.name))
    assert long == []
    assert wide <= WIDE


@pytest.mark.parametrize(
    ("owner", "attribute", "allowed"),
    [
        (
            "os",
            "environ",
            {
                "_beaker/_quiet.py",
                # Programs of their own, which conda-lock starts.
                "lock/condarelay.py",
                "lock/condasolver.py",
                "image/inside_python.py",
                "settings/surroundings.py",
                "runtime/imports.py",
                "runtime/run.py",
                "runtime/zygote.py",
                "image/build_wheel.py",
                "testing/beaker.py",
                "testing/dockerd.py",
                "testing/gantry.py",
                "testing/inside.py",
                "testing/beaker_graph.py",
                "testing/project.py",
                "testing/stand_ins.py",
            },
        ),
        ("os", "getenv", set()),
        # The process that forks steps: theirs begin where it is.
        ("os", "chdir", {"runtime/zygote.py", "image/build_wheel.py"}),
        ("os", "system", set()),
        (
            "sys",
            "exit",
            {
                "cli/__main__.py",
                "runtime/main.py",
                "image/compile_wheel.py",
                "image/inside_python.py",
                "image/build_wheel.py",
                "beakerd/__main__.py",
            },
        ),
    ],
)
def test_who_may_touch_the_process(owner: str, attribute: str, allowed: set[str]) -> None:
    """The environment is read at one door, the process left at another, and no client changes directory."""
    assert {place_of(path) for path in MODULES if uses(path, owner, attribute)} <= allowed


def test_only_the_command_line_prints() -> None:
    """No other module calls ``print``."""
    found = {
        place_of(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {place for place in found if not place.startswith("cli/")} == set()


def test_nothing_is_left_to_do() -> None:
    """No comment puts off work."""
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    files = [
        path for folder in ("dispatch", "tests", "templates", "images") for path in (ROOT / folder).rglob("*")
    ]
    texts = {
        path: path.read_text("utf-8", "replace")
        for path in files
        if path.suffix in (".py", ".j2", ".yml", ".sh")
    }
    found = [path for path, text in texts.items() if any(mark in text for mark in marks)]
    assert found == []


def test_every_test_says_what_it_holds() -> None:
    """Each test function has a docstring."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    tests = [(path, node) for path in paths for node in functions(path) if node.name.startswith("test_")]
    assert [f"{path.name}: {node.name}" for path, node in tests if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_knows_every_command(name: str) -> None:
    """Whoever reads the README meets each command."""
    assert f"dispatch {name}" in (ROOT / "README.md").read_text("utf-8")


def test_the_readme_opens_with_the_two_commands() -> None:
    """A newcomer's first two lines are the demo and the tests."""
    assert (
        (ROOT / "README.md")
        .read_text("utf-8")
        .startswith("# dispatch\n\n```console\n$ make demo\n$ make test\n```\n")
    )
