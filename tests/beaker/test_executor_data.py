"""What the settings give every job on Beaker: data to mount, variables, secrets of the workspace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import beaker as beaker_py
import pytest

from dispatch import StepGraph
from dispatch.beaker import BeakerExecutor, BeakerWorkspace
from dispatch.beakerd.config import Config
from dispatch.errors import ConfigurationError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Project
from dispatch.workspaces import LocalWorkspace

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("place")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"words.txt": "a b c\n"}).commit()
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A directory that jobs may mount under its own name."""
    made = tmp_path / "drive"
    made.mkdir()
    return made


@pytest.fixture
def server(beaker_of: Callable[[Config], LocalBeaker], drive: Path) -> LocalBeaker:
    """A Beaker with a drive, a dataset and a secret."""
    made = beaker_of(replace(Config(), host_paths=(drive,)))
    door = door_of(made)
    created = door.datasets.create("numbers")
    door.datasets.write(created, "small/one.txt", b"1\n")
    door.datasets.commit(created.dataset.id)
    door.datasets.create("unfinished")
    door.secrets.write("MY_KEY", "sesame-sesame")
    door.close()
    return made


def kept_by(server: LocalBeaker) -> BeakerWorkspace:
    """The workspace there."""
    options: dict[str, Any] = dict(options_of(server))
    return BeakerWorkspace("ai2/my-workspace", **options)


def run(server: LocalBeaker, command: str, workspace: Any = None, **more: Any) -> tuple[Any, Path]:
    """Run one command; how it ended, and its result."""
    options: dict[str, Any] = dict(options_of(server))
    kept = BeakerWorkspace("ai2/my-workspace", **options) if workspace is None else workspace
    made = BeakerExecutor(
        kept, docker_image=REFERENCE, beaker_workspace="ai2/my-workspace", **options, **more
    )
    graph = StepGraph.from_params({"only": {"type": "shell", "command": command}})
    output = made.execute_step_graph(graph)
    assert output.successful, output
    return output, kept.step_result_for_run(output.run, "only")


def test_data_and_variables_reach_every_job(server: LocalBeaker, drive: Path) -> None:
    """Spelled in all three ways, by the names that they have on Beaker."""
    (drive / "x").write_text("of the drive")
    _, result = run(
        server,
        'cd "$DISPATCH_OUTPUT_DIR"; cat /data/one.txt /drive/x > files; cat /key > key;'
        ' echo "$LEVEL $KEY $COUNT" > variables',
        datasets=[
            "me/numbers:small:/data",
            {"source": {"hostPath": str(drive)}, "mountPath": "/drive"},
            beaker_py.BeakerDataMount.new("/key", secret="MY_KEY"),
        ],
        env_vars=["LEVEL=debug", {"name": "KEY", "secret": "MY_KEY"}, beaker_py.BeakerEnvVar("COUNT", "3")],
    )
    assert (result / "files").read_text() == "1\nof the drive"
    assert (result / "variables").read_text() == "debug sesame-sesame 3\n"
    assert (result / "key").read_text() == "sesame-sesame"


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"datasets": ["me/none:/data"]}, "datasets: me/none: is not on Beaker"),
        ({"datasets": ["me/unfinished:/data"]}, "datasets: me/unfinished: is not complete"),
        ({"env_vars": [{"name": "A", "secret": "NONE"}]}, "secret NONE: is not in the workspace ai2/my-w"),
        (
            {"clusters": ["ai2/generel-cirrascale"]},
            "cluster ai2/generel-cirrascale: is not on Beaker, did you",
        ),
        ({"beaker_workspace": "ai2/none"}, "workspace ai2/none: is not on Beaker"),
        ({"budget": "ai2/none"}, "budget ai2/none: is not on Beaker"),
        ({"scheduler": "none"}, "executor.scheduler: "),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(
    server: LocalBeaker, more: dict[str, Any], fact: str
) -> None:
    """It is named, with the remedy, and no experiment is made."""
    given = {"docker_image": REFERENCE, "beaker_workspace": "ai2/my-workspace", **options_of(server), **more}
    made = BeakerExecutor(kept_by(server), **given)
    with pytest.raises(ConfigurationError, match=fact) as caught:
        made.execute_step_graph(StepGraph.from_params({"only": {"type": "shell", "command": "true"}}))
    assert caught.value.remedy
    door = door_of(server)
    assert door.experiments.search("") == []
    door.close()


def test_a_workspace_on_a_drive_that_jobs_mount(server: LocalBeaker, drive: Path) -> None:
    """The job writes into it, the client commits, and nothing passes through this machine's own disk."""
    kept = LocalWorkspace(drive / "results", shared=True)
    _, result = run(server, 'echo hello > "$DISPATCH_OUTPUT_DIR/x"', kept, datasets=[f"{drive}:{drive}"])
    assert (result / "x").read_text() == "hello\n"
    assert result.is_relative_to(drive)
    door = door_of(server)
    (made,) = door.experiments.search("")
    (job,) = door.experiments.jobs(made.task_id)
    assert not [each for each in door.datasets.files(job.result_dataset) if each.path.startswith("result")]
    door.close()


def test_no_token_is_in_a_job_unless_it_is_asked_for(server: LocalBeaker) -> None:
    """Though the server gives each job one: a step has what the user gives under the name, or nothing."""
    command = 'env | grep -c "^BEAKER_TOKEN=\\|^BEAKER_CONFIG=" > "$DISPATCH_OUTPUT_DIR/x" || true'
    _, result = run(server, command)
    assert (result / "x").read_text() == "0\n"
    asked = [{"name": "BEAKER_TOKEN", "secret": "MY_KEY"}]
    _, result = run(server, f'{command}; echo "$BEAKER_TOKEN" > "$DISPATCH_OUTPUT_DIR/y"', env_vars=asked)
    assert (result / "y").read_text() == "sesame-sesame\n"
