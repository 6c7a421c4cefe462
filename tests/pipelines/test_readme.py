"""What the README promises, done as it says: its files, its commands in their order, what they print."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dispatch.beakerd.config_file import read_config
from dispatch.testing.project import Done, Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

README = Path(__file__).parents[2] / "README.md"
_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"<!-- run -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines that a reader is to type, in order."""
    lines = "".join(_RUN.findall(README.read_text("utf-8"))).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


class Session:
    """All commands of the README, done one after the other in a project of its files."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.done: list[tuple[str, Done]] = []
        for command in commands():
            done = project.call("sh", "-c", command)
            self.done.append((command, done))
            if done.code != 0:
                break

    def of(self, command: str, occurrence: int = 0) -> Done:
        """How a command ended."""
        return [done for line, done in self.done if line == command][occurrence]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, base: str) -> Session:
    """A reader's session."""
    assert base
    root = tmp_path_factory.mktemp("readme")
    # The reader's own Beaker, if there is one, is left alone.
    project = Project(root / "words", env={"XDG_STATE_HOME": str(root / "state")})
    return Session(project.write(dict(_FILE.findall(README.read_text("utf-8")))))


def test_there_is_something_to_do() -> None:
    """The marks in the README are found: files and commands."""
    names = [name for name, _ in _FILE.findall(README.read_text("utf-8"))]
    assert set(names) == {"dispatch.yml", "words.py", "experiment.yml", "requirements.in"}
    assert {shlex.split(line)[1] for line in commands() if line.startswith("dispatch ")} >= {
        "lock", "build", "run", "doctor", "runs", "show", "result", "logs"
    }  # fmt: skip


def test_every_command_succeeds(session: Session) -> None:
    """Each line of each block, in the order of the text, exits with 0."""
    command, done = session.done[-1]
    assert done.code == 0, f"$ {command}\n{done.out}\n{done.err}"
    assert len(session.done) == len(commands())


def test_the_second_run_finds_everything_cached(session: Session) -> None:
    """The first run computes all three steps, the second none."""
    first, second = (session.of("dispatch run experiment.yml", number) for number in (0, 1))
    assert {row[0] for row in first.table().values()} == {"completed"}
    assert list(first.table()) == ["counts", "ranking", "poster"]
    assert {row[0] for row in second.table().values()} == {"cached"}


def test_the_results_are_what_the_steps_compute(session: Session) -> None:
    """`result` prints JSON, and the path of what is no text; the poster is what the command made of it."""
    assert json.loads(session.of("dispatch result latest ranking").out) == ["1st: be", "2nd: to"]
    poster = Path(session.of("dispatch result latest poster").out.strip())
    assert (poster / "poster.txt").read_text() == "1st: be, 2nd: to\n"


def test_the_public_client_finds_the_local_beaker(session: Session) -> None:
    """In a shell that `env` has set up it is the first user of the configuration."""
    (who,) = [done for command, done in session.done if command.startswith("eval ")]
    assert who.out == "me\n"


def test_the_configuration_of_a_beaker_is_one(tmp_path: Path) -> None:
    """What the README shows is taken as it is."""
    config = tmp_path / "beaker.yml"
    (text,) = re.findall(r"<!-- beaker.yml -->\n```yaml\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    config.write_text(text)
    found = read_config(config)
    assert [user.name for user in found.users] == ["me", "colleague"]
    assert found.clusters[1].nodes[0].gpus == 8


def test_results_are_plain_files_where_the_readme_says(session: Session) -> None:
    """The cache, the links of a run, and the newest run are found by path."""
    workspace = session.project.workspace
    names = {path.name for path in (workspace / "runs").iterdir()}
    assert "only-ranking" not in names, "the README removes it"
    link = workspace / "latest" / "ranking"
    assert link.is_symlink()
    assert link.resolve().parent == (workspace / "cache").resolve()
    assert (link / "result" / "data.json").is_file()
    assert (workspace / "latest").resolve().name in names


def test_a_part_of_the_graph_runs_under_its_name(session: Session) -> None:
    """`-s ranking -n only-ranking -j 2` takes two of the three steps."""
    done = session.of("dispatch run experiment.yml -s ranking -n only-ranking -j 2")
    assert list(done.table()) == ["counts", "ranking"]
    assert "run only-ranking: completed" in done.err


def test_machines_can_read_it(session: Session) -> None:
    """Everything with `--json` is one object of schema 1."""
    documents = [done.json() for command, done in session.done if "--json" in command]
    assert len(documents) >= 3
    assert {document["schema"] for document in documents} == {1}


def test_locking_again_changes_nothing(session: Session) -> None:
    """Versions stay as they are while they fit."""
    done = session.of("dispatch lock experiment.yml", 1)
    assert done.out == f"{session.project.root / 'requirements.lock'}\n"
    assert "unchanged" in done.err


def test_every_settings_key_is_known(session: Session) -> None:
    """The table of settings names keys that are accepted, every one."""
    section = README.read_text("utf-8").partition("### Choose settings")[2].partition("\n### ")[0]
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert "workspace" in keys
    empty = "".join(f"{key}:\n" for key in keys)
    place = session.project.root / "elsewhere"
    place.mkdir()
    Project(place).write({"dispatch.yml": empty}).dispatch("runs").well()


@pytest.mark.parametrize(
    "requirement", ["-e .", "words @ git+https://localhost/words.git", "./wheels/words-1.0-py3-none-any.whl"]
)
def test_only_wheels_of_an_index_are_installed(requirement: str, tmp_path: Path) -> None:
    """Editable, VCS and path requirements are refused, by file and line."""
    config = "image: e\nimages: {e: {pip: requirements.in, base: debian-python}}\nsteps: {a: {type: a}}\n"
    project = Project(tmp_path).write({"requirements.in": f"humanize\n{requirement}\n", "x.yml": config})
    done = project.dispatch("lock", "x.yml")
    assert done.code == 2, done.err
    assert f"{tmp_path / 'requirements.in'}, line 2: " in done.errors()[0]
    assert "remedy: " in done.err
    assert not (tmp_path / "requirements.lock").exists()
