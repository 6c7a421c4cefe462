"""Images of steps, declared in every place where one may stand, built and used as a user does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Done, Project

pytestmark = pytest.mark.engine

EXPERIMENT = f"""
image: made
images:
  made:
    docker: "{REFERENCE}"
    run: ["mkdir -p /made", "echo one > /made/it"]
    env: {{WORD: two}}
    user: "1000"
steps:
  default:
    type: shell
    step_network: none
    command: '{{ cat /made/it; echo "$WORD"; }} > "$DISPATCH_OUTPUT_DIR/words"'
  inline:
    type: shell
    step_network: none
    step_image: {{docker: "{REFERENCE}", run: ["echo three > /three"]}}
    command: 'cp /three "$DISPATCH_OUTPUT_DIR/words"'
  upon:
    type: shell
    step_network: none
    step_image: {{dockerfile: own/Dockerfile, base: made, args: {{TEXT: "a 'b'"}}}}
    command: 'cat /made/it /own /text > "$DISPATCH_OUTPUT_DIR/words"'
"""
DOCKERFILE = """\
ARG BASE
FROM $BASE
ARG TEXT
USER 0
COPY file /own
RUN echo "$TEXT" > /text
"""
FILES = {"experiment.yml": EXPERIMENT, "own/Dockerfile": DOCKERFILE, "own/file": "four\n"}


def verdicts(done: Done) -> dict[str, str]:
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


def words(project: Project, step: str) -> list[str]:
    path = project.dispatch("result", "latest", step).well().out.strip()
    return (project.root / path / "words").read_text().splitlines()


def test_steps_run_in_images_of_every_place(
    busybox_image: ImageRecord, make: Callable[[Mapping[str, str]], Project]
) -> None:
    """By the default's name, in the step itself, from a Dockerfile upon one; a changed file reruns it."""
    assert busybox_image.id
    project = make(FILES)
    run = ("run", "experiment.yml", "--json")
    first = project.dispatch(*run).well()
    assert verdicts(first) == {"default": "completed", "inline": "completed", "upon": "completed"}
    assert words(project, "default") == ["one", "two"]
    assert words(project, "inline") == ["three"]
    assert words(project, "upon") == ["one", "four", "a 'b'"]
    project.write({"own/file": "five\n"}).commit()
    second = project.dispatch(*run).well()
    assert verdicts(second) == {"default": "cached", "inline": "cached", "upon": "completed"}
    assert words(project, "upon") == ["one", "five", "a 'b'"]


def test_a_folder_with_a_matrix_is_built(
    busybox_image: ImageRecord, make: Callable[[Mapping[str, str]], Project]
) -> None:
    """Each combination is an image of its own, which steps can name."""
    assert busybox_image.id
    dockerfile = f"FROM {REFERENCE}\nARG PYTHON\nRUN echo $PYTHON > /python\n"
    image = 'matrix: {python: ["3.11", "3.12"]}\ndockerfile: Dockerfile\nargs: {PYTHON: "{python}"}\n'
    step = (
        "steps: {one: {type: shell, step_network: none, step_image: mine-py3.12,"
        " command: 'cp /python $DISPATCH_OUTPUT_DIR/words'}}"
    )
    project = make(
        {"images/mine/image.yml": image, "images/mine/Dockerfile": dockerfile, "experiment.yml": step}
    )
    built = project.dispatch("build", "images/mine").well().out
    assert [line.split("\t")[0] for line in built.splitlines()] == ["mine-py3.11", "mine-py3.12"]
    again = project.dispatch("build", "images/mine/image.yml", "--json").well().json()
    assert [each["done"] for each in again["images"]] == ["present", "present"]
    project.dispatch("run", "experiment.yml").well()
    assert words(project, "one") == ["3.12"]
