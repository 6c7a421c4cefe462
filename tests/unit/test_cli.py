"""The command line itself: its commands, its exit codes, what it loads, how it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import dispatch
from dispatch import errors
from dispatch.cli.__main__ import COMMANDS, exit_code, group
from dispatch.cli.output import print_json, print_table

FOLDER = Path(dispatch.__file__).parent / "cli"
HELPERS = {"__init__", "__main__", "adhoc", "beakergc", "detach", "options", "output"}

HEAVY = ["docker", "git", "jinja2", "rich", "yaml", "requests", "uv", "asyncio"]

CODES = [
    (errors.StepError, 1),
    (errors.ConfigurationError, 2),
    (errors.LockError, 2),
    (errors.StaleBaseError, 2),
    (errors.SourceError, 2),
    (errors.EngineError, 3),
    (errors.ResourceAssignmentError, 3),
    (errors.UnrecoverableResourceAssignmentError, 3),
    (errors.RemoteError, 3),
    (errors.ImageError, 3),
    (errors.BaseVanishedError, 3),
    (errors.WorkspaceError, 3),
    (errors.StepStateError, 3),
    (errors.FormatError, 3),
    (errors.DispatchError, 3),
]


def dispatch_command(*arguments: str, after: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh interpreter, and ``after`` it some code there."""
    code = (
        "import sys\nsys.argv[0] = 'dispatch'\nfrom dispatch.cli.__main__ import main\n"
        f"try:\n    main()\nfinally:\n    {after or 'pass'}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("kind", "code"), CODES, ids=lambda value: getattr(value, "__name__", None))
def test_every_error_has_its_exit_code(kind: type[errors.DispatchError], code: int) -> None:
    """1 a step failed; 2 configuration or lock; 3 engine, disk or network."""
    assert exit_code(kind("it")) == code


def test_the_table_of_exit_codes_is_complete() -> None:
    """No kind of error is left out of it."""
    kinds = {each for each in vars(errors).values() if isinstance(each, type)}
    assert kinds - {Exception} == {kind for kind, _ in CODES}


def test_every_module_is_a_listed_command() -> None:
    """What stands in the folder is what ``--help`` lists."""
    assert {path.stem for path in FOLDER.glob("*.py")} - HELPERS == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    """Each command and each of its options says what it does."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.name == name
    assert command.help
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    for each in commands:
        assert each.help
        options = [parameter for parameter in each.params if isinstance(parameter, click.Option)]
        assert [option.name for option in options if not option.help] == []


def test_help_lists_every_command_and_loads_none() -> None:
    """``--help`` is quick: neither a command's module nor any large library is imported for it."""
    after = "print(*sys.modules, file=sys.stderr)"
    found = dispatch_command("--help", after=after)
    assert found.returncode == 0
    lines = [line.split()[0] for line in found.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert set(COMMANDS) <= set(lines)
    loaded = set(found.stderr.split())
    assert not loaded & {*HEAVY, *(f"dispatch.cli.{name}" for name in COMMANDS), "dispatch.app"}


def test_an_unknown_command_is_an_error_with_a_guess() -> None:
    """A misspelt command ends with exit code 2, the nearest one, and where to read more."""
    found = dispatch_command("bulid")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.splitlines() == [
        "error: no command 'bulid', did you mean 'build'?",
        "remedy: see `dispatch --help`",
    ]


@pytest.mark.parametrize(
    ("arguments", "fact", "remedy"),
    [
        (("run",), "name a CONFIG, or a command", "see `dispatch run --help`"),
        (("run", "x.yml", "--jbos", "2"), "No such option", "see `dispatch run --help`"),
        (("run", "x.yml", "-j", "0"), "from 1, or -1", "see `dispatch run --help`"),
        (("lock",), "name a CONFIG, or an image", "see `dispatch lock --help`"),
    ],
)
def test_wrong_usage_is_an_error_like_any_other(arguments: tuple[str, ...], fact: str, remedy: str) -> None:
    """One error on stderr with the remedy, nothing on stdout, exit code 2."""
    found = dispatch_command(*arguments)
    assert (found.returncode, found.stdout) == (2, "")
    error, said = found.stderr.splitlines()
    assert error.startswith("error: ")
    assert fact in error
    assert said == f"remedy: {remedy}"


def test_the_version_is_the_packages() -> None:
    """``--version`` prints what the distribution says."""
    assert dispatch_command("--version").stdout == f"dispatch, version {dispatch.__version__}\n"


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell of any length, with brackets that some would take for markup, comes out whole."""
    long = "/a/[b]/" + "x" * 500
    print_table(("step", "result"), [("a", long)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", long]


def test_json_carries_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Every object that machines read says by which schema, and keeps every character."""
    print_json({"name": "größe"})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "name": "größe"}


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Output that nobody reads any more ends the command as SIGPIPE would, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "from dispatch.cli.__main__ import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")


def test_what_means_the_newest_run_is_no_name_for_one() -> None:
    """`latest` cannot be taken."""
    found = dispatch_command("run", "x.yml", "-n", "latest")
    assert found.returncode == 2
    assert "'latest' always means the newest run" in found.stderr
