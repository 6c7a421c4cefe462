"""Where a run's source comes from, as a user meets it: exports, clones, and what is refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.githost import GitHost, hosting
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

TOKEN = "t0ken-in-an-address"
CONFIG = """
image: git
images: {git: {docker: "dispatch-test-git:1"}}
steps:
  one:
    type: shell
    command: 'cat a.txt; ls -A "$OLDPWD" .; cp a.txt "$DISPATCH_OUTPUT_DIR"'
"""


@pytest.fixture
def host(tmp_path: Path, bridge: str) -> Iterator[GitHost]:
    """A git host that containers reach, and that asks for no password."""
    with hosting(GitHost(tmp_path / "host", address=bridge)) as host:
        yield host


@pytest.fixture
def project(tmp_path: Path, git_image: ImageRecord, host: GitHost) -> Project:
    """A project on the host that clones its source."""
    assert git_image
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    project.write({"a.txt": "1\n", "experiment.yml": CONFIG, "dispatch.yml": "source: clone\n"}).commit()
    project.git("clone", "--quiet", "--bare", ".", str(host.root / "repo.git"))
    project.git("remote", "add", "origin", f"{host.url}/repo.git")
    return project


def push(project: Project, host: GitHost) -> None:
    """Bring main to the host."""
    project.git("--git-dir", str(host.root / "repo.git"), "fetch", "--quiet", ".", "+main:main")


def result(project: Project) -> str:
    """What the step left."""
    return (project.workspace / "latest" / "one" / "result" / "a.txt").read_text()


def test_a_clone_from_end_to_end(project: Project, host: GitHost) -> None:
    """The remote is asked, the job clones, the result is the commit's; a cached run asks nobody."""
    project.dispatch("run", "experiment.yml", "-n", "first").well()
    assert result(project) == "1\n"
    assert ".git" in project.dispatch("logs", "first", "one").well().out.split()
    assert not list((project.workspace / "attempts").rglob("src"))
    host.asked.clear()
    project.dispatch("run", "experiment.yml").well()
    assert host.asked == []


def test_an_unpushed_commit_is_refused_before_anything_starts(project: Project, host: GitHost) -> None:
    """Exit code 2, with commit, remote and the command; once it is pushed, it runs."""
    project.write({"a.txt": "2\n"}).commit()
    commit = project.git("rev-parse", "HEAD").strip()
    for command in (("run", "experiment.yml"), ("run", "--dry-run", "experiment.yml")):
        done = project.dispatch(*command)
        assert done.code == 2
        assert commit[:12] in done.err
        assert "git push origin HEAD" in done.err
    assert not (project.workspace / "runs").exists()
    host.asked.clear()
    project.dispatch("why", "experiment.yml", "one").well()
    assert host.asked == []
    push(project, host)
    project.dispatch("run", "experiment.yml").well()
    assert result(project) == "2\n"


def test_what_a_clone_cannot_do(project: Project) -> None:
    """Uncommitted files, no remote, a remote that is silent, no network in the step: each its own error."""
    project.write({"a.txt": "dirty\n"})
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 2
    assert "uncommitted changes, which `source: clone` cannot bring" in done.err
    project.git("checkout", "--quiet", "a.txt")
    project.git("remote", "set-url", "origin", "http://127.0.0.1:9/repo.git")
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 3
    assert "does not answer" in done.err
    project.git("remote", "remove", "origin")
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 2
    assert "has no remote" in done.err
    project.write({"experiment.yml": CONFIG + "    step_network: none\n"}).commit()
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 2
    assert "without network cannot clone" in done.err
    assert not (project.workspace / "runs").exists()


def test_a_password_in_the_address_goes_nowhere(project: Project, host: GitHost) -> None:
    """It is cut off with a warning, serves the question alone, and is in no file and no message."""
    host.password = TOKEN
    project.git("remote", "set-url", "origin", f"{host.url}/repo.git".replace("://", f"://me:{TOKEN}@"))
    done = project.dispatch("run", "experiment.yml", "-n", "first")
    assert done.code == 1
    assert "user and password in its address are left out" in done.err
    assert "Username" in project.dispatch("logs", "first", "one").well().out
    assert TOKEN not in done.err + done.out
    texts = [path for path in project.workspace.rglob("*") if path.is_file()]
    assert texts
    assert [path for path in texts if TOKEN.encode() in path.read_bytes()] == []


def test_an_image_without_git_says_so(project: Project, busybox_image: ImageRecord) -> None:
    """The reason of the failed step names git and the remedies."""
    assert busybox_image
    config = CONFIG.replace("dispatch-test-git:1", "dispatch-test-busybox:1")
    project.write({"dispatch.yml": "source: clone\n", "experiment.yml": config}).commit()
    push(project, GitHost(project.root.parent / "host"))
    done = project.dispatch("run", "experiment.yml")
    assert done.code == 1
    assert "the image has no git" in project.dispatch("show").well().out


def test_a_dirty_run_keeps_its_difference(project: Project) -> None:
    """`show` leads to a patch with all that differs from the commit, untracked files among it."""
    project.write({"dispatch.yml": "", "a.txt": "dirty\n", "new.txt": "new\n"})
    project.dispatch("run", "experiment.yml", "-n", "first").well()
    assert result(project) == "dirty\n"
    shown = project.dispatch("show", "first", "--json").well().json()["source"]
    assert shown["commit"] == project.git("rev-parse", "HEAD").strip()
    assert shown["dirty"] is True
    (path,) = shown["differences"]
    patch = Path(path).read_text()
    assert "+dirty" in patch
    assert "+++ b/new.txt" in patch
    assert path in project.dispatch("show", "first").well().err
    project.commit()
    project.dispatch("run", "experiment.yml", "-n", "second").well()
    assert project.dispatch("show", "second", "--json").well().json()["source"]["differences"] == []


def test_an_engine_elsewhere_gets_no_uncommitted_files_unasked(project: Project) -> None:
    """Refused for an address of another machine, unless the settings allow it."""
    project.write({"dispatch.yml": "", "a.txt": "dirty\n"})
    elsewhere = {"DOCKER_HOST": "tcp://127.0.0.1:9"}
    done = project.dispatch("run", "experiment.yml", env=elsewhere)
    assert done.code == 2
    assert "the engine is another machine's (tcp://127.0.0.1:9)" in done.err
    assert "allow_dirty: true" in done.err
    project.write({"dispatch.yml": "allow_dirty: true\n"})
    assert project.dispatch("run", "experiment.yml", env=elsewhere).code == 3


def test_submodules_run(project: Project, tmp_path: Path) -> None:
    """What is checked out of them is there, as it is, and is part of the difference."""
    (tmp_path / "lib").mkdir()
    Project(tmp_path / "lib").write({"lib.txt": "lib\n"}).commit()
    project.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "lib"), "lib"
    )
    config = CONFIG.replace("cat a.txt;", "cat lib/lib.txt;")
    project.write({"dispatch.yml": "", "experiment.yml": config}).commit()
    project.write({"lib/lib.txt": "changed\n"})
    project.dispatch("run", "experiment.yml", "-n", "first").well()
    assert "changed" in project.dispatch("logs", "first", "one").well().out
    (path,) = project.dispatch("show", "first", "--json").well().json()["source"]["differences"]
    assert "+++ b/lib/lib.txt" in Path(path).read_text()


def test_a_private_clone(project: Project, host: GitHost) -> None:
    """The client and the job show the token to the host; it stands nowhere, and the step does not have it."""
    host.password = TOKEN
    steps = CONFIG.replace("cat a.txt;", 'cat a.txt; ls "${DISPATCH_SECRETS_DIR:-/none}" || true;')
    settings = """
source: {mode: clone, token: GIT_TOKEN, user: robot}
secrets: {GIT_TOKEN: {env: MY_TOKEN}}
"""
    project.write({"experiment.yml": steps, "dispatch.yml": settings}).commit()
    push(project, host)
    missing = project.dispatch("run", "experiment.yml")
    assert (missing.code, missing.errors()) == (
        2,
        ["error: source: clone: secret 'GIT_TOKEN': the environment variable MY_TOKEN is not set"],
    )
    done = project.dispatch("run", "experiment.yml", env={"MY_TOKEN": TOKEN}).well()
    assert result(project) == "1\n"
    assert set(host.users) == {"robot"}
    said = project.dispatch("logs", "latest", "one").well().out
    assert "GIT_TOKEN" not in said
    assert TOKEN not in done.out + done.err + said
    assert not [name for name, content in project.files().items() if TOKEN.encode() in content]
    wrong = project.dispatch("run", "experiment.yml", "-n", "again", env={"MY_TOKEN": "an-0lder-token"})
    assert wrong.code == 0, "all is cached, and nobody is asked"
    project.write({"experiment.yml": steps.replace("cp a.txt", "cp ./a.txt")}).commit()
    push(project, host)
    refused = project.dispatch("run", "experiment.yml", env={"MY_TOKEN": "an-0lder-token"})
    assert refused.code == 2
    assert len(refused.errors()) == 1
    assert "an-0lder-token" not in refused.err
