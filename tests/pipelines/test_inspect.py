"""Images in the engine, looked into and built again, listed and pruned: what `dispatch` says and does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door
from dispatch._docker.containers import ContainerSpec
from dispatch.image.cachefiles import cached_files
from dispatch.image.holdings import survey
from dispatch.image.prune import Bounds, Pruning, carry_out, plan
from dispatch.image.usage import usage_of
from dispatch.image.verify import Layer, Verifier
from dispatch.testing.catalogue import pip_lock
from dispatch.testing.index import serving, wheel
from dispatch.testing.project import Project
from dispatch.testing.reporting import RecordingReporter

pytestmark = [pytest.mark.engine, pytest.mark.archive]

CONFIG = """\
image: sound
images:
  sound: {{pip: sound.in, base: "{base}"}}
  broken: {{pip: broken.in, base: "{base}"}}
steps:
  a: {{type: shell, command: "true"}}
  b: {{type: shell, command: "true", step_image: "broken"}}
"""
TAMPER = "echo 'x = 1' >/opt/venv/lib/python3.11/site-packages/dispatch_test_a.py; \
cp -R /opt/venv/lib/python3.11/site-packages/dispatch_test_a-1.0.dist-info \
/opt/venv/lib/python3.11/site-packages/dispatch_test_z-1.0.dist-info; \
sed -i s/test-a/test-z/ /opt/venv/lib/python3.11/site-packages/dispatch_test_z-1.0.dist-info/METADATA"


def docker(*words: str) -> str:
    """Run the docker command, and return what it prints."""
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, base: str) -> Iterator[Project]:
    """Two built images of one package each, whose caches are the test's own; one package does not import."""
    root = tmp_path_factory.mktemp("inspect")
    with serving(root / "index") as index:
        for name, text in {"a": "", "b": "import nothing_like_it"}.items():
            package = f"dispatch-test-{name}"
            file = f"dispatch_test_{name}-1.0-py3-none-any.whl"
            index.serve(package, file, wheel(package, text))
        unset = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
        places = {"UV_CACHE_DIR": str(root / "uv"), "XDG_CACHE_HOME": str(root / "cache")}
        (root / "project").mkdir()
        project = Project(root / "project", {**unset, **places, "PIP_INDEX_URL": index.address})
        files = {"sound.in": "dispatch-test-a\n", "broken.in": "dispatch-test-b\n"}
        project.write({**files, "experiment.yml": CONFIG.format(base=base)})
        project.dispatch("lock", "experiment.yml").well()
        built = project.dispatch("build", "experiment.yml").well()
        yield project
    for line in built.out.splitlines():
        subprocess.run(["docker", "image", "rm", line.split("\t")[1]], capture_output=True)


@pytest.fixture(scope="module")
def images(project: Project) -> dict[str, dict[str, Any]]:
    """What is listed of the two, by name."""
    listed = project.dispatch("images", "--json").well().json()["images"]
    return {image["names"][0]: image for image in listed if image["declared"]}


def test_listed(project: Project, images: dict[str, dict[str, Any]]) -> None:
    """An image is listed with the declaration that it was built for, and what it shares with its base."""
    assert sorted(images) == ["broken", "sound"]
    sound = images["sound"]
    assert sound["declared"] == [{"name": "sound", "file": str(project.root / "experiment.yml")}]
    assert 0 < sound["shared_bytes"] < sound["bytes"]
    assert sound["references"] == [f"dispatch:sound--{sound['digest'][:16]}"]
    assert "sound" in project.dispatch("images").well().table()


def test_what_is_wrong_is_found(project: Project) -> None:
    """A package that does not import is named, and the command fails; the image beside it is well."""
    done = project.dispatch("verify", "experiment.yml")
    assert done.code == 3
    assert (
        "broken: import dispatch_test_b: ModuleNotFoundError: No module named 'nothing_like_it'" in done.err
    )
    assert done.errors() == ["error: 1 thing is not as the locks say"]
    assert len(done.out.splitlines()) == 1 + 2 * 4


def test_the_same_image_again(project: Project, images: dict[str, dict[str, Any]]) -> None:
    """By its reference alone an image is verified, and built again from empty caches with the same ID."""
    sound = images["sound"]
    done = project.dispatch("verify", sound["references"][0], "--rebuild", "--json").well()
    found = done.json()
    assert [image["image"] for image in found["images"]] == [sound["image"]]
    assert {check["what"]: check["count"] for check in found["images"][0]["checks"]} == {
        "pip packages": 1,
        "files of pip packages": 4,
        "imports of pip packages": 1,
        "scripts of pip packages": 0,
    }
    assert [(each["again"], each["same"]) for each in found["rebuilt"]] == [(sound["image"], True)]
    assert list((Path(project.env["XDG_CACHE_HOME"]) / "dispatch" / "staging").iterdir()) == []


def test_what_was_tampered_with(door: Door, images: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """In an image that somebody changed, the changed file and the package of no lock are named."""
    container = docker("create", images["sound"]["image"], "sh", "-c", TAMPER)
    docker("start", "--attach", container)
    changed = docker("commit", container)
    docker("rm", container)
    try:
        verifier = Verifier(door, f"{os.getuid()}:{os.getgid()}", tmp_path)
        layers = [Layer(pip_lock("dispatch-test-a==1.0", "dispatch-test-x==1.0"))]
        found = verifier.verify("changed", changed, layers, RecordingReporter())
        assert found.problems == (
            "dispatch-test-x 1.0 is not installed",
            "dispatch-test-z 1.0 is in no lock",
            *("dispatch-test-a: dispatch_test_a.py was changed",),
            *("dispatch-test-z: dispatch_test_a.py was changed",),
        )
        # It inherits the labels of ours, and is not taken for one of ours.
        held = survey(door.stock, usage_of(tmp_path))
        assert changed not in {image.id for image in held.images}
        assert images["sound"]["image"] in {image.id for image in held.images}
    finally:
        docker("image", "rm", changed)


def test_an_image_made_on_top_of_ours(project: Project, images: dict[str, dict[str, Any]]) -> None:
    """However many images carry the labels of ours, ours is found, and nothing is built again."""
    sound = images["sound"]
    made = []
    for number in range(6):
        container = docker("create", sound["image"], "true")
        made.append(f"dispatch-test-upon:{number}")
        docker("commit", "--change", f"ENV NUMBER={number}", container, made[-1])
        docker("rm", container)
    try:
        done = project.dispatch("build", "--dry-run", "--json", "experiment.yml").well()
        assert [image["action"] for image in done.json()["images"] if "sound" in image["names"]] == [
            "present"
        ]
        listed = project.dispatch("images", "--json").well().json()["images"]
        assert not {name for image in listed for name in image["references"]}.intersection(made)
    finally:
        docker("image", "rm", *made)


def test_pruned(project: Project, door: Door, images: dict[str, dict[str, Any]]) -> None:
    """An image that a container has stays, whenever that came; without one it goes, with all its names."""
    cache = Path(project.env["XDG_CACHE_HOME"]) / "dispatch"
    broken = images["broken"]
    usage = usage_of(cache)

    def pruning() -> Pruning:
        whole = plan(survey(door.stock, usage), cached_files(cache), Bounds(keep=0))
        # The engine is everybody's: what is not of this test is left alone.
        mine = [item for item in whole.items if item.image is None or item.image.id == broken["image"]]
        return replace(whole, items=tuple(mine))

    before = pruning()
    spec = ContainerSpec(broken["image"], ("true",), name="dispatch-test-inspect")
    container = door.containers.create(spec)
    try:
        assert [item for item in pruning().items if item.image is not None] == []
        shown = project.dispatch("images", "prune", "--keep", "0", "--json").well().json()
        assert shown["applied"] is False
        kept = {each["name"]: each["reason"] for each in shown["kept"]}
        assert kept["broken"] == "container dispatch-test-inspect has it (created)"
        images_only = tuple(item for item in before.items if item.image is not None)
        went, stayed = carry_out(replace(before, items=images_only), door.stock, cache / "locks", usage)
        assert (went, [why for _, why in stayed]) == ([], ["a container has it"])
    finally:
        door.containers.remove(container)
    went, stayed = carry_out(pruning(), door.stock, cache / "locks", usage)
    assert (len([item for item in went if item.image is not None]), stayed) == (1, [])
    assert door.inspect_image(broken["image"]) is None and door.inspect_image(broken["references"][0]) is None
    assert "broken" not in json.dumps(project.dispatch("images", "--json").well().json())
