"""Which requirements a ``pyproject.toml`` comes to, and what in it is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.lock.pyproject import read_pyproject, refuse_other_python

PROJECT = """
[project]
name = "My.Project"
requires-python = ">=3.10,<3.13"
dependencies = ["numpy  >= 1.26", "scipy"]

[project.optional-dependencies]
GPU = ["torch>=2"]
plots = ["matplotlib", "my-project[GPU]"]
all = ["my_project[gpu, plots]"]
round = ["my-project[round]"]

[dependency-groups]
test = ["pytest", {include-group = "types"}]
types = ["mypy"]
circle = [{include-group = "Circle"}]

[[tool.uv.index]]
url = "https://wheels.example/simple"

[[tool.uv.index]]
url = "https://own.example/simple"
explicit = true
"""


def write(directory: Path, text: str = PROJECT) -> Path:
    """Write a project's file."""
    path = directory / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("extras", "groups", "lines"),
    [
        ((), (), ("numpy >= 1.26", "scipy")),
        (("gpu",), (), ("numpy >= 1.26", "scipy", "torch>=2")),
        (("plots",), (), ("numpy >= 1.26", "scipy", "matplotlib", "torch>=2")),
        (("all",), (), ("numpy >= 1.26", "scipy", "torch>=2", "matplotlib", "torch>=2")),
        ((), ("test",), ("numpy >= 1.26", "scipy", "pytest", "mypy")),
        (("gpu",), ("types",), ("numpy >= 1.26", "scipy", "torch>=2", "mypy")),
    ],
)
def test_what_is_asked(
    tmp_path: Path, extras: tuple[str, ...], groups: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    """Dependencies, and those of named extras and groups with what these include; the project itself not."""
    found = read_pyproject(write(tmp_path), extras, groups)
    assert found.lines == lines
    assert found.indexes == ("https://wheels.example/simple",)


def test_groups_need_no_project(tmp_path: Path) -> None:
    """A file with nothing but dependency groups gives those."""
    path = write(tmp_path, '[dependency-groups]\ntest = ["pytest"]\n')
    assert read_pyproject(path, groups=("test",)).lines == ("pytest",)


@pytest.mark.parametrize(
    ("text", "extras", "groups", "fact"),
    [
        (PROJECT, ("gpus",), (), "it has no extra 'gpus'"),
        (PROJECT, (), ("tests",), "no dependency group 'tests', did you mean 'test'?"),
        (PROJECT, ("round",), (), "the extra 'round' includes itself: round → round"),
        (PROJECT, (), ("circle",), "the dependency group 'Circle' includes itself: circle → circle"),
        ("[project", (), (), "not TOML"),
        ("", (), (), "it has no [project] table"),
        ("[tool.poetry.dependencies]\nnumpy = '1'\n", (), (), "Poetry's own"),
        ("project = 1\n", (), (), "project is no table"),
        ("[project]\ndynamic = ['dependencies']\n", (), (), "project.dependencies is dynamic"),
        ("[project]\ndynamic = ['optional-dependencies']\n", ("x",), (), "optional-dependencies is dynamic"),
        ("[project]\ndependencies = 'numpy'\n", (), (), "project.dependencies is no list of texts"),
        ("[project]\ndependencies = [1]\n", (), (), "project.dependencies is no list of texts"),
        ("[dependency-groups]\na = 'x'\n", (), ("a",), "dependency-groups.a is no list"),
        ("[dependency-groups]\na = [{x = 'y'}]\n", (), ("a",), "dependency-groups.a is no list of texts"),
        (
            "[project]\ndependencies = ['tool @ git+https://u:s3cret@a.example/tool']\n",
            (),
            (),
            "project.dependencies: tool: a package from a repository or an address",
        ),
        ("[project]\ndependencies = ['./here']\n", (), (), "a local path cannot be part of a lock"),
        ("[project]\ndependencies = ['-e .']\n", (), (), "not a requirement: -e ."),
        (
            "[project]\ndependencies = ['Tool']\n[tool.uv.sources]\ntool = {git = 'https://a.example/t'}\n",
            (),
            (),
            "tool.uv.sources takes tool from a source of its own (git)",
        ),
        (
            "[project]\ndependencies = ['torch']\n[tool.uv.sources]\ntorch = [{index = 'cu124'}]\n",
            (),
            (),
            "tool.uv.sources takes torch from a source of its own (several)",
        ),
        (
            "[project]\ndependencies = []\n[[tool.uv.index]]\nurl = 'https://u:s3cret@a.example'\n",
            (),
            (),
            "tool.uv.index: the index address carries credentials",
        ),
    ],
)
def test_refused(
    tmp_path: Path, text: str, extras: tuple[str, ...], groups: tuple[str, ...], fact: str
) -> None:
    """What cannot be locked is refused with file, place, fact and remedy; no secret is shown."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_pyproject(path, extras, groups)
    assert caught.value.message.startswith(str(path))
    assert fact in caught.value.message
    assert caught.value.remedy
    assert "s3cret" not in caught.value.message + caught.value.remedy


def test_sources_of_what_is_not_asked_are_nothing_to_us(tmp_path: Path) -> None:
    """A source for a package of an extra that is left out is in nobody's way."""
    text = "[project]\ndependencies = ['a']\n[tool.uv.sources]\nb = {path = '../b'}\n"
    assert read_pyproject(write(tmp_path, text)).lines == ("a",)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an error that names it."""
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml cannot be read: No such file"):
        read_pyproject(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("requires", "python", "allowed"),
    [
        ("", "3.9", True),
        (">=3.10", "3.10", True),
        (">=3.10.4", "3.10", True),
        (">=3.10,<3.13", "3.13", False),
        (">=3.10", "3.9", False),
        ("==3.11.*", "3.11", True),
        ("~=3.11", "3.12", True),
    ],
)
def test_requires_python(tmp_path: Path, requires: str, python: str, allowed: bool) -> None:
    """An image for a Python that the project does not allow is refused; patch releases are not known here."""
    found = read_pyproject(write(tmp_path, f"[project]\nname = 'a'\nrequires-python = '{requires}'\n"))
    if allowed:
        refuse_other_python(found, python, "image 'a'")
        return
    with pytest.raises(ConfigurationError) as caught:
        refuse_other_python(found, python, "image 'a'")
    assert f"image 'a' is for Python {python}, and {found.path} requires {requires}" in caught.value.message


def test_malformed_requires_python(tmp_path: Path) -> None:
    """A ``requires-python`` that means nothing is said to be so."""
    found = read_pyproject(write(tmp_path, "[project]\nrequires-python = 'new'\n"))
    with pytest.raises(ConfigurationError, match="requires-python 'new' is malformed"):
        refuse_other_python(found, "3.11", "image 'a'")
