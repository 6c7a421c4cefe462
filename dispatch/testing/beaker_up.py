"""A local Beaker as a user has it: set up by the command, found through the environment, and taken down.

Owns its state directory and what a user's shell would export. The images it offers are there, made where the
engine does not hold them.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from dispatch.testing.project import Project

# Two GPUs that the machine need not have.
CONFIG = """\
users:
- {name: me, organizations: [ai2], admin: true}
- {name: colleague, organizations: [ai2]}
clusters:
- name: ai2/general-cirrascale
  nodes: [{hostname: gpu-1, gpus: 2, gpu_type: NVIDIA_A100_80GB}]
"""
# No remnant of another shell, or of this test session.
_OTHERS = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "BEAKER_CONFIG", "BEAKER_TOKEN", "BEAKER_ADDR", "GITHUB_TOKEN")


@contextlib.contextmanager
def beaker_up(root: Path, config: str = CONFIG) -> Iterator[Mapping[str, str]]:
    """Run a local Beaker below ``root`` while the context lasts; gives the variables of its first user."""
    root.mkdir(parents=True, exist_ok=True)
    home = Project(root, env=dict.fromkeys(_OTHERS, "")).write({"beaker.yml": config})
    state = ("--state", str(root / "state"))
    home.dispatch("beaker", "up", "--config", "beaker.yml", *state).well()
    try:
        yield variables(home.dispatch("beaker", "env", *state).well().out)
    finally:
        home.dispatch("beaker", "reset", "--yes", *state)


def variables(text: str) -> dict[str, str]:
    """The variables of a shell that has evaluated ``text``; '' for one that it unsets."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        word, *rest = shlex.split(line)
        if word == "unset":
            found.update(dict.fromkeys(rest, ""))
        else:
            name, _, value = rest[0].partition("=")
            found[name] = value
    return found
