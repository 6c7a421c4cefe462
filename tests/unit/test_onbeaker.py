"""What the settings of a run on Beaker mean before anything is asked: images, environments, schedulers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.app.onbeaker.placing import scheduler_of, terms_of
from dispatch.app.onbeaker.rules import (
    check_workspace,
    refuse_dirty,
    setups_of,
    tell_of_networks,
    with_default_image,
)
from dispatch.config import Config, of_graph
from dispatch.environment import BeakerImage, DockerImage
from dispatch.errors import ConfigurationError, SourceError
from dispatch.graph import StepGraph
from dispatch.job import Setup
from dispatch.reporting import Lines
from dispatch.schedule.beaker import SimpleBeakerScheduler, Terms
from dispatch.settings import ExecutorSetting, Settings, WorkspaceSetting, read_settings
from dispatch.settings.beaker import BeakerSetup
from dispatch.source import SourceRef
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace

TORCH = "ghcr.io/allenai/pytorch:1.12.0-cuda11.3-python3.9"


def settings(setup: BeakerSetup, **more: object) -> Settings:
    executor = ExecutorSetting("beaker", beaker=setup)
    return replace(Settings(WorkspaceSetting("local", Path("/ws")), executor), **more)  # type: ignore[arg-type]


def config() -> Config:
    """A graph of three steps: one without an image, one with its own, one for this machine."""
    graph = StepGraph.from_params(
        {
            "bare": {"type": "shell", "command": "true"},
            "own": {"type": "shell", "command": "true", "step_image": "tools"},
            "here": {"type": "shell", "command": "true", "step_resources": {"machine": "local"}},
        }
    )
    images = {"tools": {"docker": "tools:1"}}
    path = Path("/project/dispatch.yml")
    return of_graph(graph, path.parent, _with_images(images), Path("/none"))


def _with_images(images: dict[str, dict[str, str]]) -> Settings:
    from dispatch.settings.document import Document
    from dispatch.settings.matrix import read_images
    from dispatch.settings.section import Section

    document = Document(Path("/project/dispatch.yml"), {"images": images}, {})
    return settings(BeakerSetup(), images=read_images(Section.of(document).section("images")))


@pytest.mark.parametrize(
    ("setup", "name", "declared"),
    [
        (BeakerSetup(), "ai2/conda", BeakerImage("ai2/conda")),
        (BeakerSetup(beaker_image="me/mine"), "me/mine", BeakerImage("me/mine")),
        (BeakerSetup(docker_image=TORCH), TORCH, DockerImage(TORCH)),
    ],
)
def test_steps_without_an_image_have_the_executors(
    setup: BeakerSetup, name: str, declared: DockerImage | BeakerImage
) -> None:
    """Neither those that name one, nor those for this machine."""
    found = with_default_image(config(), setup, None)
    assert dict(found.images) == {"bare": name, "own": "tools", "here": None}
    assert found.environments[name].declaration == declared


def test_environments_are_made_in_images_that_are_not_ours() -> None:
    """As the settings say, whichever of them a step names."""
    setup = BeakerSetup(venv_name="base", install_cmd="pip install .")
    found = with_default_image(config(), setup, None)
    wanted = Setup("base", "pip install .")
    assert setups_of(found, setup, {"tools": 1, "ai2/conda": 1}) == {"tools": wanted, "ai2/conda": wanted}


def test_workspaces(tmp_path: Path) -> None:
    """One in memory is refused, one on this machine warned of, one on a drive that jobs see passes."""
    said: list[str] = []
    with pytest.raises(ConfigurationError, match="results in memory would be lost"):
        check_workspace(MemoryWorkspace(), Lines(said.append))
    check_workspace(LocalWorkspace(tmp_path / "a", shared=True), Lines(said.append))
    assert said == []
    check_workspace(LocalWorkspace(tmp_path / "b"), Lines(said.append))
    assert "pass through it" in said[0]


def test_a_mounted_drive_is_a_shared_one(tmp_path: Path) -> None:
    """Only where jobs see it under its own name, and whole."""
    mounts = "['/net/a:/net/a', '/net/b:/data', '/net/c:x:/net/c', 'me/data:/d']"
    path = tmp_path / "dispatch.yml"
    path.write_text(f"shared_dirs: [/net/z]\nexecutor: {{type: beaker, datasets: {mounts}}}\n")
    read = read_settings(path, tmp_path, WorkspaceSetting("local", tmp_path))
    assert read.shared_dirs == (Path("/net/z"), Path("/net/a"))


@pytest.mark.parametrize(
    ("own", "top", "runs"),
    [
        (None, None, False),
        (False, None, False),
        (True, None, True),
        (None, True, True),
        (False, True, False),
        (True, False, True),
    ],
)
def test_uncommitted_changes(own: bool | None, top: bool | None, runs: bool) -> None:
    """They run where the executor's settings, or else those at the top, allow it."""
    ref = SourceRef(Path("/project"), "c", "t", dirty=True)
    read = settings(BeakerSetup(allow_dirty=own), allow_dirty=top)
    if runs:
        refuse_dirty(ref, Path("/project"), read)
        return
    with pytest.raises(SourceError, match="uncommitted changes"):
        refuse_dirty(ref, Path("/project"), read)
    refuse_dirty(replace(ref, dirty=False), Path("/project"), read)


def test_terms() -> None:
    """A scheduler that is named takes clusters and priority over; the rest stays the settings'."""
    setup = BeakerSetup(
        clusters=("ai2/a",), priority="high", preemptible=False, min_runtime=60.0, budget="ai2/b"
    )
    assert terms_of(setup) == Terms(("ai2/a",), "high", False, 60.0, "ai2/b")
    assert terms_of(replace(setup, scheduler={"type": "x"})) == Terms((), "", False, 60.0, "ai2/b")


def test_the_scheduler_that_is_meant(tmp_path: Path) -> None:
    """`simple` with clusters and priority by default; one that is not known names what imports would tell."""
    found = scheduler_of(BeakerSetup(clusters=("ai2/a",)), settings(BeakerSetup()))
    assert isinstance(found, SimpleBeakerScheduler)
    assert (found.clusters, found.priority) == (["ai2/a"], "normal")
    broken = settings(BeakerSetup(), include_package=("no_such_module",), path=tmp_path / "dispatch.yml")
    with pytest.raises(ConfigurationError, match="'no_such_module' was imported to find the scheduler"):
        scheduler_of(BeakerSetup(scheduler={"type": "theirs"}), broken)
    with pytest.raises(ConfigurationError, match=r"executor\.scheduler: .* no 'theirs' is registered"):
        scheduler_of(BeakerSetup(scheduler={"type": "theirs"}), settings(BeakerSetup()))


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (0, []),
        (1, ["jobs on Beaker have a network, though 's0' asks for none"]),
        (5, ["jobs on Beaker have a network, though 's0', 's1', 's2' and 2 more ask for none"]),
    ],
)
def test_who_asks_for_no_network_is_told(without: int, said: list[str]) -> None:
    """Beaker cannot keep one from a job; steps of this machine, and those that do not ask, are not named."""
    plain = {"type": "shell", "command": "true"}
    here = {**plain, "step_network": "none", "step_resources": {"machine": "local"}}
    asking = {f"s{number}": {**plain, "step_network": "none"} for number in range(without)}
    told: list[str] = []
    tell_of_networks(StepGraph.from_params({**asking, "plain": plain, "here": here}), Lines(told.append))
    assert told == said
