"""Continuous integration as the README shows it: one runner builds and pushes, another one builds nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch.settings.document import read_document
from dispatch.testing.dockerd import own_engine
from dispatch.testing.project import Project
from dispatch.testing.registries import PASSWORD, USER, docker_registry

pytestmark = [pytest.mark.engine, pytest.mark.archive]

CASE = Path(__file__).parent / "ci"
README = Path(__file__).parents[2] / "README.md"
FILES = (".github/workflows/experiment.yml", ".gitlab-ci.yml", "ci/images.sh", "ci/run.sh")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of all runners: the address of a registry, and a login for it in Docker's way."""
    with docker_registry(tmp_path / "registry", password=True) as registry:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = tmp_path / "docker"
        config.mkdir()
        (config / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        yield {"DISPATCH_REGISTRY": f"{registry.host}/my-team", "DOCKER_CONFIG": str(config)}


def test_two_runners(
    base: str, team: dict[str, str], copy: Callable[[str, Path], Project], tmp_path: Path
) -> None:
    """The first runner has the images pushed; the second, with an engine and a home of its own, runs them."""
    assert base
    first = copy("ci", tmp_path / "first")
    pushed = first.call("sh", "ci/images.sh", env=team).well()
    address = re.escape(team["DISPATCH_REGISTRY"])
    for name, line in zip(("tables", "report"), pushed.out.splitlines()[-2:], strict=True):
        assert re.fullmatch(rf"{name}\t{address}/dispatch:{name}--[0-9a-f]{{16}}", line)
    again = first.call("sh", "ci/images.sh", env=team).well()
    assert again.out == pushed.out and "pushing" not in again.err
    words = ("build", "--push", team["DISPATCH_REGISTRY"], "--json", "experiment.yml")
    exact = [each["image"] for each in first.dispatch(*words, env=team).well().json()["images"]]
    assert all(re.fullmatch(rf"{address}/dispatch@sha256:[0-9a-f]{{64}}", each) for each in exact)

    second = copy("ci", tmp_path / "second")
    home = tmp_path / "home"
    home.mkdir()
    with own_engine(tmp_path / "engine") as engine:
        own = {**team, "DOCKER_HOST": engine.address, "HOME": str(home), "XDG_CACHE_HOME": ""}
        done = second.call("sh", "ci/run.sh", env=own).well()
        assert "building" not in done.err and "fetching" in done.err
        assert not list((home / ".cache" / "dispatch").glob("layers/*.tar"))
        (result,) = (second.workspace / "cache").glob("*/result/report.txt")
        assert result.read_text() == "words: 3\n"
        cached = second.call("sh", "ci/run.sh", env=own).well()
        assert "2 of 2 steps cached" in cached.err


def test_a_stale_lock_stops_the_first_runner(
    team: dict[str, str], copy: Callable[[str, Path], Project], tmp_path: Path
) -> None:
    """Whoever forgot to lock hears it before anything is built or pushed."""
    project = copy("ci", tmp_path / "project").write({"requirements.in": "pyyaml\nrich\n"})
    done = project.call("sh", "ci/images.sh", env=team)
    assert done.code == 2
    assert "requirements.lock" in done.err + done.out and "building" not in done.err


@pytest.mark.parametrize("name", FILES)
def test_the_readme_shows_the_tested_files(name: str) -> None:
    """What the README shows are the files that are tested here."""
    shown = re.findall(
        rf"<!-- ci: {re.escape(name)} -->\n```\w*\n(.*?)^```$",
        README.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    assert shown == [(CASE / name).read_text("utf-8")]


@pytest.mark.parametrize(("name", "key"), [(FILES[0], "run"), (FILES[1], "script")])
def test_the_services_call_the_scripts(name: str, key: str) -> None:
    """The files of GitHub and of GitLab can be read, and call both scripts in their order."""
    text = json.dumps(read_document(CASE / name).content)
    called = re.findall(r"sh (ci/\w+\.sh)", text)
    assert called == ["ci/images.sh", "ci/run.sh"] and f'"{key}"' in text
