"""`source: clone` before anything starts: what jobs are told, and whose access they use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.app.cloning import clone_for
from dispatch.app.source import SourceTree
from dispatch.errors import ConfigurationError, SourceError
from dispatch.executor.tasks import clone_of, uses_of
from dispatch.job import Clone
from dispatch.options import SecretUse
from dispatch.settings import SourceMode, SourceSetting
from dispatch.source import Git
from dispatch.testing.githost import GitHost, hosting
from dispatch.testing.plans import HERE, plan_steps
from dispatch.testing.repositories import ENVIRON, git, new

TOKEN = "t0ken-of-the-plan"
CLONE = SourceSetting(SourceMode.CLONE)
STEPS: dict[str, Any] = {"one": {"type": "shell", "command": "true"}}
Ask = Callable[..., "Clone | None"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    """A host with the repository ``repo.git``."""
    with hosting(GitHost(tmp_path / "host")) as host:
        yield host


@pytest.fixture
def root(tmp_path: Path, host: GitHost) -> Path:
    """The repository, pushed."""
    root = new(tmp_path / "repo", a_txt="1\n")
    git(tmp_path, "clone", "-q", "--bare", str(root), "host/repo.git")
    git(root, "remote", "add", "origin", f"{host.url}/repo.git")
    return root


@pytest.fixture
def said() -> list[str]:
    """What the user was told."""
    return []


@pytest.fixture
def ask(root: Path, said: list[str]) -> Ask:
    """Asks what jobs clone."""

    def ask(
        setting: SourceSetting = CLONE,
        steps: dict[str, Any] = STEPS,
        secret: Callable[[str], str] | None = None,
    ) -> Clone | None:
        source = SourceTree(root, [], [], Git(ENVIRON), root.parent / "cache")
        return clone_for(plan_steps(steps), source, setting, said.append, secret)

    return ask


def test_what_jobs_are_told(root: Path, host: GitHost, ask: Ask, said: list[str]) -> None:
    """Address, commit, the branch that holds it, and the names of secrets."""
    clone = ask(replace(CLONE, token="GIT_TOKEN"))
    head = git(root, "rev-parse", "HEAD")
    url = f"{host.url}/repo.git"
    assert clone == Clone(url, head, "refs/heads/main", host.url, "x-access-token", "GIT_TOKEN")
    assert clone.secrets == ("GIT_TOKEN",)
    assert said == []


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        (SourceSetting(), STEPS),
        (SourceSetting(SourceMode.EXPORT), STEPS),
        (CLONE, {"one": {"type": "load", "step_image": HERE}}),
    ],
)
def test_nobody_is_asked_without_need(
    host: GitHost, ask: Ask, setting: SourceSetting, steps: dict[str, Any]
) -> None:
    """Neither for an export, nor where no container starts."""
    assert ask(setting, steps) is None
    assert host.asked == []


def test_the_token_that_jobs_use_asks(host: GitHost, ask: Ask) -> None:
    """So a wrong one is found before anything starts."""
    host.password = TOKEN
    setting = replace(CLONE, token="GIT_TOKEN", user="robot")
    values = {"GIT_TOKEN": TOKEN}
    clone = ask(setting, secret=values.__getitem__)
    assert clone is not None
    assert {*host.users} == {"robot"}
    assert TOKEN not in str(clone)
    with pytest.raises(SourceError, match="does not let us in"):
        ask(setting, secret=lambda _: "another")


def test_access_of_the_wrong_kind_is_refused(root: Path, ask: Ask) -> None:
    """A token for ssh, and a key for http, would be left unused in silence."""
    with pytest.raises(SourceError, match="an ssh key is for ssh"):
        ask(replace(CLONE, ssh_key="KEY"))
    git(root, "remote", "set-url", "origin", "git@127.0.0.1:repo.git")
    with pytest.raises(SourceError, match="a token is for https"):
        ask(replace(CLONE, token="GIT_TOKEN"))


def test_credentials_in_the_address_are_said(root: Path, host: GitHost, ask: Ask, said: list[str]) -> None:
    """They are left out, and the user is told without being shown them."""
    git(root, "remote", "set-url", "origin", f"http://me:{TOKEN}@127.0.0.1:{host.port}/repo.git")
    clone = ask()
    assert clone is not None
    assert clone.url == f"{host.url}/repo.git"
    (line,) = said
    assert "'origin'" in line
    assert TOKEN not in line


def test_a_step_without_network_cannot_clone(host: GitHost, ask: Ask) -> None:
    """It is named before anybody is asked."""
    with pytest.raises(ConfigurationError, match="'one'"):
        ask(steps={"one": {**STEPS["one"], "step_network": "none"}})
    assert host.asked == []


def test_secrets_of_the_clone_are_added_and_dropped() -> None:
    """A job has the step's and the clone's; what the step does not name is gone when it begins."""
    clone = Clone("https://example.org/x", "0" * 40, token="A", ssh_key="B")
    steps = {"one": {**STEPS["one"], "step_secrets": [{"name": "A", "env": True}, "C"]}}
    planned = plan_steps(steps)["one"]
    assert uses_of(planned, clone) == (SecretUse("A", env=True), SecretUse("C"), SecretUse("B"))
    assert clone_of(planned, clone) == replace(clone, dropped=("B",))
    assert uses_of(planned, None) == (SecretUse("A", env=True), SecretUse("C"))
    assert clone_of(planned, None) is None
