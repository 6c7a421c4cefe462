"""`dispatch lock` for a conda environment with a pip section, from a channel and wheels of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.testing.condapackages import true_channel
from dispatch.testing.project import Done, Project
from dispatch.testing.wheelhouse import make_wheel

CONFIG = """\
image: gpu
images:
  gpu: {conda: environment.yml, base: debian-python, target: {cuda: "12.4"}}
steps:
  look: {type: shell, command: "true"}
"""
FILE = """\
channels: [team]
dependencies:
  - greet
  - numlib =1.5
  - accel
  - pip:
      - tool
"""
CONDA, PIP = "environment.linux-64.lock", "environment.linux-64.pip.lock"


class Machine:
    """A repository with the declaration, and a machine that has a channel and a few wheels."""

    def __init__(self, directory: Path) -> None:
        true_channel(directory / "channels" / "team", python=False)
        self.wheels = directory / "wheels"
        self.wheels.mkdir()
        for version in ("1.5", "2.0"):
            make_wheel(self.wheels, "numlib", version)
        make_wheel(self.wheels, "tool", "1.0", "numlib>=1")
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(directory),
            "CONDA_CHANNEL_ALIAS": (directory / "channels").as_uri(),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        self.project = Project(directory / "project")
        self.project.root.mkdir()
        self.project.write({"experiment.yml": CONFIG, "environment.yml": FILE})
        self.project.git("init", "-q")

    def lock(self, *options: str) -> Done:
        """Run the command."""
        return self.project.dispatch("lock", *options, "experiment.yml", env=self.env)

    def change(self, before: str, after: str) -> None:
        """Change the environment.yml."""
        path = self.project.root / "environment.yml"
        path.write_text(path.read_text("utf-8").replace(before, after), "utf-8")

    def text(self, name: str) -> str:
        """A file of the repository."""
        return (self.project.root / name).read_text("utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A repository that is not locked yet."""
    return Machine(tmp_path)


def test_both_parts_of_an_environment(machine: Machine) -> None:
    """Each part is resolved by its own tool for the other's facts, and again only for a reason of its own."""
    assert machine.lock().code == 0
    conda, pip = machine.text(CONDA), machine.text(PIP)
    # The pip part was resolved with what conda brings, for its Python, and does not bring that again.
    assert "accel 2.0 cuda12_2" in conda and "tool==1.0" in pip
    assert "# provided: numlib==1.5" in pip and "numlib==" not in pip.partition("\n\n")[2]
    for secret in (str(machine.project.root.parent), "file:"):
        assert secret not in conda and secret not in pip
    assert machine.lock("--check").code == 0

    make_wheel(machine.wheels, "tool", "1.1", "numlib>=1")
    machine.change("- tool", "- tool >1.0")
    checked = machine.lock("--check")
    assert checked.code == 2 and f"{PIP} is stale" in checked.err and f"{CONDA} is" not in checked.err
    assert machine.text(PIP) == pip
    assert f"{CONDA}: unchanged, 6 packages, for the same inputs" in machine.lock().err
    assert machine.text(CONDA) == conda and "tool==1.1" in machine.text(PIP)

    pip = machine.text(PIP)
    machine.change("- accel", "- accel <3")
    checked = machine.lock("--check")
    assert checked.code == 2 and "asks for accel <3 and no longer asks for accel" in checked.err
    assert f"{PIP}: unchanged, 1 packages, for the same inputs" in machine.lock().err
    assert machine.text(PIP) == pip

    machine.change("- numlib =1.5", "- numlib")
    done = machine.lock("--upgrade-package", "numlib")
    assert "numlib 1.5 → 2.0" in done.err and "# provided: numlib==2.0" in machine.text(PIP)
    assert machine.lock("--check").code == 0


def test_a_pip_section_that_cannot_be_locked(machine: Machine) -> None:
    """It is refused by its line before conda's packages are solved: no channel is asked, no lock written."""
    machine.change("- tool", "- -e .")
    machine.env["CONDA_CHANNEL_ALIAS"] = "http://127.0.0.1:1"
    done = machine.lock()
    assert done.code == 2 and "environment.yml" in done.err and "editable" in done.err
    assert not (machine.project.root / CONDA).exists()
