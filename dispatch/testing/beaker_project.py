"""A user's project whose workspace is on a local Beaker, and what that user's shell needs to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dispatch.testing.beaker import BeakerProcess, LocalBeaker
from dispatch.testing.project import Project

WORKSPACE = "beaker://ai2/my-workspace"
MODULE = """\
import time
from pathlib import Path

from dispatch import step


@step("double")
def double(n: int) -> int:
    print("doubling", n)
    return 2 * n


@step("fails")
def fails(n: int) -> int:
    print("about to fail")
    raise ValueError("no good")


@step("waits")
def waits(go: str) -> str:
    print("waiting", flush=True)
    while not Path(go).exists():
        time.sleep(0.05)
    return "went"
"""
CONFIG = """\
steps:
  one: {type: double, n: 1}
  two: {type: double, n: {type: ref, ref: one}}
"""


def project_on(
    beaker: LocalBeaker | BeakerProcess,
    root: Path,
    user: str = "me",
    settings: str = "",
    env: Mapping[str, str] | None = None,
) -> Project:
    """A project of steps that need no image, on a machine of its own without an engine, in no repository.

    What the test session's gRPC trusts, its commands trust, too.
    """
    root.mkdir(parents=True)
    project = Project(
        root,
        {
            "BEAKER_CONFIG": str(beaker.layout.users / user / "config.yml"),
            "BEAKER_TOKEN": "",
            "BEAKER_ADDR": "",
            "XDG_CACHE_HOME": str(root.parent / f"{root.name}-cache"),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            **(env or {}),
        },
    )
    settings = settings or f"workspace: {WORKSPACE}\n"
    project.write(
        {"dispatch.yml": f"{settings}include_package: [mine]\n", "mine.py": MODULE, "x.yml": CONFIG}
    )
    return project
