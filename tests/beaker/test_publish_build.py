"""`dispatch build --publish beaker`: a team's images, built once, published once, found by everybody."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch import assets
from dispatch._beaker import BeakerDoor, Image
from dispatch._docker import Door
from dispatch.app.images import Doors, Images
from dispatch.beakerd.config import Config, UserConfig
from dispatch.config.catalogue import Catalogue, collect
from dispatch.environment import BeakerId, BeakerImage, DockerImage, Environment, RegistryDigest
from dispatch.errors import ImageError
from dispatch.settings import read_environment
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.project import COMMAND, Project
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

CONFIG = Config(users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",))), control=True)
STEPS = """\
images: {theirs: {docker: "python:3.11"}}
steps:
  one: {type: shell, step_image: debian-python, command: "true"}
  two: {type: shell, step_image: theirs, command: "true"}
"""
# An address at which no engine listens.
NOWHERE = "unix:///nonexistent/docker.sock"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image ``debian-python``, built if it is missing; its reference."""
    project = Project(tmp_path_factory.mktemp("base")).write({"e.yml": STEPS.replace("two:", "# two:")})
    return project.dispatch("build", "--renew-base", "e.yml").well().out.split()[1]


@pytest.fixture
def beaker(beaker_of: Callable[[Config], LocalBeaker]) -> LocalBeaker:
    """A server with two users."""
    return beaker_of(CONFIG)


@pytest.fixture
def doors(beaker: LocalBeaker) -> Iterator[Callable[..., BeakerDoor]]:
    """Doors to it."""
    made: list[BeakerDoor] = []

    def make(user: str = "me") -> BeakerDoor:
        made.append(door_of(beaker, user))
        return made[-1]

    yield make
    for each in made:
        each.close()


def project_of(tmp_path: Path, beaker: LocalBeaker, user: str = "me", **env: str) -> Project:
    """A user's project, with what ``dispatch beaker env`` sets."""
    (tmp_path / user).mkdir(exist_ok=True)
    environ = {
        "BEAKER_CONFIG": str(beaker.layout.users / user / "config.yml"),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
        **env,
    }
    settings = "executor: {type: beaker, beaker_workspace: ai2/my-workspace, clusters: [ai2/a]}\n"
    return Project(tmp_path / user, environ).write({"e.yml": STEPS, "dispatch.yml": settings})


def only(own: BeakerDoor) -> Image:
    """The one image of the workspace."""
    (found,) = own.images.search()
    return found


def test_built_published_and_found(
    beaker: LocalBeaker, doors: Callable[..., BeakerDoor], base: str, tmp_path: Path
) -> None:
    """A dry run says what would be sent and sends nothing; then name, tab, id; a teammate who has no engine
    is told the same id. What is somebody else's is left where it is."""
    mine, tag = project_of(tmp_path, beaker), base.partition(":")[2]
    planned = mine.dispatch("build", "--publish", "beaker", "--dry-run", "--json", "e.yml").well()
    assert planned.json()["images"] == [
        {"name": "debian-python", "action": "publish", "reference": None, "tag": tag},
        {"name": "theirs", "action": "present", "reference": "python:3.11", "tag": None},
    ]
    assert f"debian-python: publish as {tag}" in planned.err
    assert doors().images.search() == []
    done = mine.dispatch("build", "--publish", "beaker", "e.yml").well()
    told = only(doors())
    assert done.out == f"debian-python\t{told.id}\ntheirs\tpython:3.11\n"
    assert (told.name, told.committed) == (tag, True)
    assert f"debian-python: publishing to Beaker as {tag}" in done.err
    yours = project_of(tmp_path, beaker, "you", DOCKER_HOST=NOWHERE)
    again = yours.dispatch("build", "--publish", "beaker", "--json", "e.yml").well()
    assert again.json()["images"] == [
        {"name": "debian-python", "reference": told.id},
        {"name": "theirs", "reference": "python:3.11"},
    ]
    dry = yours.dispatch("build", "--publish", "beaker", "--dry-run", "e.yml").well()
    assert f"debian-python: on Beaker: {told.id}" in dry.err
    assert only(doors()) == told


def test_what_cannot_be_published_is_an_error(
    beaker: LocalBeaker, doors: Callable[..., BeakerDoor], base: str, tmp_path: Path
) -> None:
    """Nowhere to publish to, no token, no engine to build with, an image that is not there: said in one line,
    and without a trace."""
    mine = project_of(tmp_path, beaker)
    refused = mine.dispatch("build", "--publish", "nowhere", "e.yml")
    assert refused.code == 2
    mine.write({"dispatch.yml": "executor: {type: beaker, beaker_workspace: ai2/no, clusters: [ai2/a]}\n"})
    lost = mine.dispatch("build", "--publish", "beaker", "e.yml")
    assert (lost.code, len(lost.errors())) == (2, 1) and "ai2/no" in lost.err
    strange = project_of(tmp_path, beaker, DOCKER_HOST=NOWHERE)
    absent = strange.dispatch("build", "--publish", "beaker", "e.yml")
    assert absent.code == 3 and "nonexistent" in absent.errors()[0]
    strange.write({"e.yml": STEPS.replace('docker: "python:3.11"', "beaker: me/nothing")})
    missing = strange.dispatch("build", "--publish", "beaker", "e.yml")
    assert missing.code == 3 and "'me/nothing'" in missing.errors()[0]
    anonymous = project_of(tmp_path, beaker, BEAKER_CONFIG=str(tmp_path / "none.yml"), BEAKER_TOKEN="")
    anonymous = Project(anonymous.root, {**anonymous.env, "HOME": str(tmp_path / "home")})
    unknown = anonymous.dispatch("build", "--publish", "beaker", "e.yml")
    assert (unknown.code, len(unknown.errors())) == (2, 1), unknown.err
    assert all("Traceback" not in each.err for each in (refused, lost, absent, missing, unknown))
    assert doors().images.search() == [] and base


def test_killed_in_the_middle_of_a_push(
    beaker: LocalBeaker, doors: Callable[..., BeakerDoor], base: str, door: Door, tmp_path: Path
) -> None:
    """kill -9, and Ctrl-C after it: the same command ends what was begun, under the same id."""
    mine, faults = project_of(tmp_path, beaker), Faults(beaker)
    rule = faults.add("rest:P* /v2/*/blobs/uploads/*", "latency", seconds=1.0)
    first = ""
    for number, how in enumerate((signal.SIGKILL, signal.SIGINT)):
        struck = faults.hits(rule)
        started = mine.start(COMMAND, "build", "--publish", "beaker", "e.yml")
        deadline = time.monotonic() + 120
        while faults.hits(rule) == struck:
            assert time.monotonic() < deadline and started.running, started.end()
            time.sleep(0.05)
        begun = only(doors())
        assert not begun.committed and (not first or begun.id == first)
        first = begun.id
        started.signal(how, group=number == 1)
        ended = started.end()
        assert ended.code == (-signal.SIGKILL if number == 0 else 130), ended.err
    faults.clear()
    done = mine.dispatch("build", "--publish", "beaker", "e.yml").well()
    assert done.out.splitlines()[0] == f"debian-python\t{first}"
    assert only(doors()).committed
    record = door.inspect_image(base)
    assert record is not None and not [name for name in record.tags if name.startswith("127.")]


def test_runs_on_beaker_name_the_id(
    beaker: LocalBeaker, doors: Callable[..., BeakerDoor], base: str, tmp_path: Path
) -> None:
    """The first run publishes what its steps need; a teammate without an engine runs in the same image."""
    settings = (
        "workspace: beaker://ai2/my-workspace\n"
        "executor: {type: beaker, beaker_workspace: ai2/my-workspace, clusters: [ai2/general-cirrascale]}\n"
    )
    step = "{type: shell, step_image: debian-python, command: 'python3 -V > \"$DISPATCH_OUTPUT_DIR/%s\"'}"
    for user, env in (("me", {}), ("you", {"DOCKER_HOST": NOWHERE})):
        project = project_of(tmp_path, beaker, user, **env)
        text = f"steps: {{{user}: {step % user}}}\n"
        project.write({"dispatch.yml": settings, "e.yml": text}).commit()
        done = project.dispatch("run", "--json", "-n", f"of-{user}", "e.yml").well()
        assert [each["verdict"] for each in done.json()["steps"]] == ["completed"]
        assert ("publishing to Beaker" in done.err) is (user == "me")
    told = only(doors())
    assert told.name == base.partition(":")[2]
    with beaker.client() as client:
        specs = [client.experiment.get_spec(each.experiment) for each in client.workload.list()]
    assert [spec.tasks[0].image.beaker for spec in specs] == [told.id] * 2


def images_of(own: BeakerDoor, door: Callable[[], Door], **more: str) -> Images:
    """The images that a run on Beaker may name."""
    origin = Path("/here/e.yml")
    environments = collect(Catalogue((), (assets.images(),)), [("debian-python", "a test")])
    environments["theirs"] = Environment("theirs", DockerImage("python:3.11"), origin)
    for name, image in more.items():
        environments[name] = Environment(name, BeakerImage(image), origin)
    doors = Doors(door, lambda: own)
    return Images(environments, read_environment(), doors, "e.yml", RecordingReporter())


def test_images_of_a_run_on_beaker(doors: Callable[..., BeakerDoor], base: str, door: Door) -> None:
    """Generated ones by the id that they are published under, Docker's by reference, Beaker's by id."""
    names = ["debian-python", "theirs"]
    made = images_of(doors(), lambda: door).on_beaker(names)
    told = only(doors())
    assert made == {"debian-python": BeakerId(told.id), "theirs": RegistryDigest("python:3.11")}
    given = images_of(doors("you"), lambda: door, named=f"me/{told.name}", pinned=told.id)
    found = given.on_beaker([*names, "named", "pinned"])
    assert found == {**made, "named": BeakerId(told.id), "pinned": BeakerId(told.id)}
    assert given.recipes(names).of("debian-python").digest == json.loads(told.description)["digest"]
    wrong = images_of(doors(), lambda: door, pinned="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(ImageError, match="01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        wrong.on_beaker(["pinned"])
    assert base
