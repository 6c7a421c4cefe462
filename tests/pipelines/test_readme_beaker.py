"""What the README shows a newcomer of Beaker, done as it says: its files, its three commands, one shell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dispatch.settings import WorkspaceSetting, read_settings
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

README = Path(__file__).parents[2] / "README.md"
_FIRST = re.compile(r"<!-- first: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"<!-- on-beaker: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"<!-- on-beaker -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTINGS = re.compile(r"### Run steps on Beaker\n\n```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_three_commands(tmp_path: Path) -> None:
    """A newcomer's shell: the last line ends with all steps completed, and the result is there."""
    text = README.read_text("utf-8")
    (tmp_path / "first").mkdir()
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "BEAKER_CONFIG": "", "BEAKER_TOKEN": ""}
    project = Project(tmp_path / "first", {**home, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ""})
    project.write({**dict(_FIRST.findall(text)), **dict(_FILE.findall(text))})
    (block,) = _RUN.findall(text)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) == 3
    try:
        done = project.call("sh", "-c", "\n".join(("set -e", *commands, "dispatch result latest sum"))).well()
    finally:
        project.dispatch("beaker", "reset", "--yes")
    *table, result = done.out.splitlines()
    states = [line.split()[1] for line in table if line.split()[0] in ("three", "four", "sum")]
    assert states == ["completed"] * 3
    assert result == "25"


def test_the_settings_that_it_shows(tmp_path: Path) -> None:
    """They are read as they stand."""
    (text,) = _SETTINGS.findall(README.read_text("utf-8"))
    path = tmp_path / "dispatch.yml"
    path.write_text(text)
    found = read_settings(path, tmp_path, WorkspaceSetting("local", tmp_path)).executor.beaker
    assert found is not None
    assert [each.source for each in found.datasets] == ["beaker", "host_path", "secret"]
    assert [each.secret for each in found.env_vars] == [None, "MY_HF_TOKEN"]
