"""How the source comes into jobs on Beaker: cloned where everybody may clone, else exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch import StepGraph
from dispatch._docker import ImageRecord
from dispatch.beaker import BeakerExecutor, BeakerWorkspace
from dispatch.errors import ConfigurationError, SourceError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.githost import GitHost, hosting
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("place")]

TOKEN = "ghp_0123456789abcdef"
CLONE = "source: clone\n"


@pytest.fixture
def host(tmp_path: Path, bridge: str) -> Iterator[GitHost]:
    """A host of git repositories that jobs reach, too."""
    with hosting(GitHost(tmp_path / "host", address=bridge)) as host:
        yield host


@pytest.fixture
def place(tmp_path: Path, host: GitHost, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository whose commit is on the host, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"a.txt": "1\n"}).commit()
    made.git("remote", "add", "origin", f"{host.url}/repo.git")
    push(made, host)
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    return made


def push(project: Project, host: GitHost) -> None:
    target = host.root / "repo.git"
    if not target.exists():
        project.git("clone", "--quiet", "--bare", ".", str(target))
    project.git("push", "--quiet", str(target), "HEAD:main")


def run(server: LocalBeaker, image: str, **more: Any) -> str:
    """Run one command that reads the source; what it read."""
    options: dict[str, Any] = dict(options_of(server))
    kept = BeakerWorkspace("ai2/my-workspace", **options)
    made = BeakerExecutor(kept, docker_image=image, beaker_workspace="ai2/my-workspace", **options, **more)
    command = 'cat a.txt > "$DISPATCH_OUTPUT_DIR/x"; env > "$DISPATCH_OUTPUT_DIR/env"'
    graph = StepGraph.from_params({"only": {"type": "shell", "paths": ["a.txt"], "command": command}})
    output = made.execute_step_graph(graph)
    assert output.successful, output
    result = kept.step_result_for_run(output.run, "only")
    assert TOKEN not in (result / "env").read_text()
    text = str((result / "x").read_text())
    kept.close()
    return text


def exports(server: LocalBeaker) -> int:
    """How many exports of a source there are on Beaker."""
    door = door_of(server)
    try:
        found = door.datasets.search("dispatch-bundle-")
        return sum(each.path == "source.tar" for one in found for each in door.datasets.files(one.id))
    finally:
        door.close()


def test_what_everybody_may_clone_is_cloned(
    beaker: LocalBeaker, host: GitHost, git_image: ImageRecord
) -> None:
    """The job fetches the commit itself; nothing of the source goes to Beaker."""
    assert run(beaker, git_image.id) == "1\n"
    assert exports(beaker) == 0
    assert any("git-upload-pack" in path for path in host.asked)


def test_a_commit_that_is_not_pushed_is_exported(
    beaker: LocalBeaker, place: Project, git_image: ImageRecord
) -> None:
    """Nothing need be pushed: the exact commit goes to Beaker as a dataset."""
    place.write({"a.txt": "2\n"}).commit()
    assert run(beaker, git_image.id) == "2\n"
    assert exports(beaker) == 1


def test_a_private_repository_needs_no_token(
    beaker: LocalBeaker, host: GitHost, git_image: ImageRecord
) -> None:
    """Where a clone would need one, the source is exported."""
    host.password = TOKEN
    assert run(beaker, git_image.id) == "1\n"
    assert exports(beaker) == 1


def test_a_private_clone(
    beaker: LocalBeaker,
    place: Project,
    host: GitHost,
    git_image: ImageRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the token of the settings, which is kept as one secret for all jobs, and in no other place."""
    place.write({"dispatch.yml": CLONE}).commit()
    push(place, host)
    host.password = TOKEN
    with pytest.raises(ConfigurationError, match="jobs can clone it with a token alone") as caught:
        run(beaker, git_image.id)
    assert "export GITHUB_TOKEN" in caught.value.remedy
    # It wins over the one of the environment.
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_of_another_account")
    assert run(beaker, git_image.id, github_token=TOKEN) == "1\n"
    assert exports(beaker) == 0
    place.write({"a.txt": "3\n"}).commit()
    push(place, host)
    assert run(beaker, git_image.id, github_token=TOKEN) == "3\n"
    door = door_of(beaker)
    assert [name for name in door.secrets.names() if name.startswith("dispatch-")] == [
        "dispatch-clone-me-GITHUB_TOKEN"
    ]
    for each in door.experiments.search(""):
        assert TOKEN not in repr(each)
    with beaker.client() as client:
        for each in door.experiments.search(""):
            assert TOKEN not in str(client.experiment.get_spec(client.workload.get(each.id)))
    door.close()


def test_a_token_of_the_environment_goes_to_github_alone(
    beaker: LocalBeaker,
    place: Project,
    host: GitHost,
    git_image: ImageRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another host is not shown what was made for GitHub."""
    place.write({"dispatch.yml": CLONE}).commit()
    push(place, host)
    host.password = TOKEN
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with pytest.raises(ConfigurationError, match="jobs can clone it with a token alone"):
        run(beaker, git_image.id)
    assert host.users == []


def test_an_unpushed_commit_cannot_be_cloned(
    beaker: LocalBeaker, place: Project, git_image: ImageRecord
) -> None:
    """`source: clone` means it."""
    place.write({"dispatch.yml": CLONE}).commit()
    with pytest.raises(SourceError, match="is not in the remote"):
        run(beaker, git_image.id)
