"""Mounts of steps and settings: which count, what their sources mean, and which are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.app.mounting import Mounting, without_container
from dispatch.engine.base import Mount
from dispatch.errors import ConfigurationError
from dispatch.location import HostPath, SharedPath
from dispatch.settings import MountSetting, Settings, WorkspaceSetting
from dispatch.testing.plans import HERE, plan_steps
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace

Of = Callable[..., tuple[Mount, ...]]


class Lab:
    """A home, a configuration's directory and a workspace, each with something in it."""

    def __init__(self, directory: Path) -> None:
        self.home, self.config = directory / "home", directory / "repo"
        self.kept = directory / "ws"
        for place in ("home/cache", "repo/data", "repo/other", "ws/cache/x", "ws/leases"):
            (directory / place).mkdir(parents=True)
        (self.config / "link").symlink_to(directory / "ws" / "cache")
        settings = Settings(WorkspaceSetting("local", self.kept), path=self.config / "dispatch.yml")
        self.mounting = Mounting(settings, self.config, self.home, LocalWorkspace(self.kept), here=True)

    def settings(self, *mounts: MountSetting) -> Lab:
        """Have the settings name mounts."""
        self.mounting = replace(self.mounting, settings=replace(self.mounting.settings, mounts=mounts))
        return self

    def of(self, *mounts: dict[str, Any], image: str = "base") -> tuple[Mount, ...]:
        """The mounts of a step that names these."""
        step = {"type": "train", "step_image": image, "step_mounts": list(mounts)}
        return self.mounting.of(plan_steps({"train": step}))["train"]

    def refused(self, *mounts: dict[str, Any], image: str = "base") -> ConfigurationError:
        """The error for them."""
        with pytest.raises(ConfigurationError) as caught:
            self.of(*mounts, image=image)
        return caught.value


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose paths hold no links."""
    return Lab(Path(os.path.realpath(tmp_path)))


def test_sources(lab: Lab) -> None:
    """They are relative to the configuration, `~/` is the user's home, and links are followed."""
    assert lab.of(
        {"source": "data", "target": "/a"},
        {"source": "~/cache", "target": "/b", "read_only": False},
        {"source": "./data/../other", "target": "/c"},
        {"source": "link/x", "target": "/d"},
        {"source": "/", "target": "/e", "read_only": False},
    ) == (
        Mount(HostPath(lab.config / "data"), "/a"),
        Mount(HostPath(lab.home / "cache"), "/b", read_only=False),
        Mount(HostPath(lab.config / "other"), "/c"),
        Mount(HostPath(lab.kept / "cache" / "x"), "/d"),
        Mount(HostPath(Path("/")), "/e", read_only=False),
    )


def test_a_step_has_the_last_word(lab: Lab) -> None:
    """Settings' mounts are every step's; at the same target the step's own takes their place."""
    lab.settings(MountSetting(lab.home, "/a"), MountSetting(lab.home / "missing", "/b"))
    assert lab.of({"source": "data", "target": "/b/"}, {"source": "data", "target": "/c"}) == (
        Mount(HostPath(lab.home), "/a"),
        Mount(HostPath(lab.config / "data"), "/b"),
        Mount(HostPath(lab.config / "data"), "/c"),
    )


def test_a_source_that_is_not_there(lab: Lab) -> None:
    """It is refused before anything starts, with who named it, and how to make it."""
    error = lab.refused({"source": "~/a b", "target": "/x", "read_only": False})
    assert error.message == f"step 'train': step_mounts: {lab.home}/a b is not there"
    assert error.remedy == f"`mkdir -p '{lab.home}/a b'`"
    error = lab.refused({"source": "nothing", "target": "/x"})
    assert error.remedy.startswith("name a path that is there")
    lab.settings(MountSetting(lab.home / "hf", "/hf", read_only=False))
    error = lab.refused()
    assert error.message == f"{lab.config}/dispatch.yml: mounts: {lab.home}/hf is not there"
    assert error.remedy == f"`mkdir -p {lab.home}/hf`"


@pytest.mark.parametrize("source", ["../ws", "../ws/cache", "../ws/leases", "link", "link/x"])
def test_the_workspace_is_not_written(lab: Lab, source: str) -> None:
    """A step may read the workspace's files but not write them, by whatever way it names them."""
    error = lab.refused({"source": source, "target": "/x", "read_only": False})
    assert "lies in the workspace, where steps must not write" in error.message
    assert lab.of({"source": source, "target": "/x"})[0].read_only
    lab.mounting = replace(lab.mounting, workspace=MemoryWorkspace())
    assert not lab.of({"source": source, "target": "/x", "read_only": False})[0].read_only


def test_a_step_without_a_container(lab: Lab) -> None:
    """Its own mounts are refused; those of the settings, which are every step's, are left out."""
    error = lab.refused({"source": "data", "target": "/x"}, image=HERE)
    assert "step 'train': step_mounts: it runs on this machine without a container" in error.message
    lab.settings(MountSetting(lab.home / "missing", "/b"))
    assert lab.of(image=HERE) == ()


def test_an_engine_elsewhere(lab: Lab) -> None:
    """Sources are paths of its own host, which need not be here."""
    lab.mounting = replace(lab.mounting, here=False)
    assert lab.of({"source": "/data/../models", "target": "/x", "read_only": False}) == (
        Mount(SharedPath(Path("/models")), "/x", read_only=False),
    )


def test_steps_without_container_are_named() -> None:
    """A few by name, the others by number."""
    steps = {name: {"type": "t", "n": name, "step_image": HERE} for name in "abcde"}
    assert without_container(plan_steps({"a": {**steps["a"], "step_image": "base"}})) == ""
    assert without_container(plan_steps({name: steps[name] for name in "ab"})) == "'a', 'b'"
    assert without_container(plan_steps(steps)) == "'a', 'b', 'c' and 2 more"


def test_mounts_are_no_part_of_a_steps_identity() -> None:
    """The same step with other mounts, of another group, is the same step."""
    plain: dict[str, Any] = {"type": "train", "n": 1}
    mounted = {**plain, "step_mounts": [{"source": "/", "target": "/x"}], "step_group": "g"}
    records = [plan_steps({"a": step})["a"].record for step in (plain, mounted)]
    assert records[0] is not None and records[1] is not None
    assert records[0].unique_id == records[1].unique_id
