"""Images between the real engine and the registry: pushed with the real client, pulled by jobs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from beaker import BeakerExperimentSpec, BeakerTaskSpec
from beaker import beaker_pb2 as pb2
from beaker.exceptions import BeakerError

from dispatch._docker import Door
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.blobs import Blobs
from dispatch.beakerd.config import Config
from dispatch.beakerd.images import ImageProvider, ImageTrouble
from dispatch.beakerd.spec import ImageSource, TaskSpec, dump_task
from dispatch.beakerd.store.lifecycle import NewJob, Status
from dispatch.errors import ImageError
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.busybox import REFERENCE, busybox_archive
from dispatch.testing.layers import layered_archive
from dispatch.testing.registry import Repository, rest, workspace_of

pytestmark = pytest.mark.engine

MB = 1 << 20


class Engine:
    """The engine's images of one test: all are gone at its end."""

    def __init__(self, door: Door):
        self.door = door
        self._made: list[str] = []

    def load(self, *sizes: int) -> str:
        """Load an image of new random layers, and return its reference."""
        reference = f"dispatch-test-images:{os.urandom(6).hex()}"
        self.load_archive(reference, layered_archive(reference, [os.urandom(size) for size in sizes]))
        return reference

    def load_archive(self, reference: str, content: bytes) -> str:
        """Load an image, and return its ID."""
        self._made.append(reference)
        self.door.load([content])
        return self.id(reference)

    def id(self, reference: str) -> str:
        """The ID of an image that is there."""
        record = self.door.inspect_image(reference)
        assert record is not None
        return record.id

    def forget(self, image: str) -> None:
        """Remove an image by its ID, with all of its names."""
        deadline = time.monotonic() + 60
        while (record := self.door.inspect_image(image)) is not None:
            try:
                self.door.remove_image((*record.tags, *record.digests, image)[0])
            except ImageError:  # a job has ended that used it, and its container is being removed
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def close(self) -> None:
        """Remove what is left."""
        for reference in self._made:
            record = self.door.inspect_image(reference)
            if record is not None:
                self.forget(record.id)


@pytest.fixture
def engine(door: Door) -> Iterator[Engine]:
    """The engine, and what the test loads into it."""
    made = Engine(door)
    yield made
    made.close()


def create(beaker: LocalBeaker, name: str, reference: str) -> Any:
    """``image.create`` of the real client."""
    with beaker.client() as client:
        return client.image.create(name, reference, workspace=pb2.Workspace(id=workspace_of(beaker)))


def backend_of(beaker: LocalBeaker) -> Backend:
    """The parts of a running server."""
    assert beaker.server.backend is not None
    return beaker.server.backend


def job_of(backend: Backend) -> str:
    """A job that is being prepared, of which nobody knows but the database."""
    with backend.database.write() as tx:
        workspace, author = tx.execute("SELECT id, author_id FROM workspaces LIMIT 1").fetchone()
        experiment, task, now = backend.ids.new(), backend.ids.new(), backend.clock.now()
        tx.execute(
            "INSERT INTO experiments (id, author_id, workspace_id, spec, created) VALUES (?, ?, ?, '{}', ?)",
            (experiment, author, workspace, now),
        )
        spec = dump_task(TaskSpec(ImageSource(docker="none")))
        tx.execute(
            "INSERT INTO tasks (id, experiment_id, position, spec, status, created)"
            " VALUES (?, ?, 0, ?, 1, ?)",
            (task, experiment, spec, now),
        )
        job = backend.lifecycle.queue(tx, NewJob(task, experiment, workspace, author, "", 2))
        tx.execute("UPDATE jobs SET status = ? WHERE id = ?", (Status.INITIALIZING, job))
    return job


def pulls_of(backend: Backend) -> list[str]:
    """What the events of all jobs say of pulls."""
    with backend.database.read() as tx:
        rows = tx.execute("SELECT message FROM job_events WHERE status = 'pulling' ORDER BY created")
        return [row[0] for row in rows.fetchall()]


def test_a_pushed_image_comes_back_the_same(beaker: LocalBeaker, engine: Engine, tmp_path: Path) -> None:
    """More than 100 MB in several layers: pushed, pushed again without a byte, removed from the engine, and
    pulled again by ``docker pull`` and for a job under the same image ID."""
    reference = engine.load(60 * MB, 1, 50 * MB, 3 * MB)
    held = engine.id(reference)
    image = create(beaker, "large", reference)
    assert (image.docker_id, image.original_tag) == (held, reference) and image.HasField("committed")
    assert image.size > 110 * MB
    blobs = Blobs(beaker.layout.blobs)
    before = {digest: blobs.path(digest).stat().st_ino for digest in blobs.all()[0]}
    assert len(before) == 5
    again = create(beaker, "again", reference)
    assert {digest: blobs.path(digest).stat().st_ino for digest in blobs.all()[0]} == before
    assert again.docker_id == held and again.id != image.id

    engine.forget(held)
    place = rest(beaker, "GET", f"/api/v3/images/{image.id}/repository").json()
    login(tmp_path, place["auth"]["server_address"], place["auth"]["password"])
    docker(tmp_path, "pull", "-q", place["imageTag"])
    assert engine.id(place["imageTag"]) == held

    engine.forget(held)
    backend = backend_of(beaker)
    assert ImageProvider(backend).provide(ImageSource(beaker=again.id), job_of(backend)) == held
    assert engine.id(again.docker_tag) == held
    with backend.database.read() as tx:
        row = tx.execute("SELECT count(*) FROM tokens WHERE subject = ?", (again.id,)).fetchone()
    assert row[0] == 1  # that of the push: the one of the pull has ended with it
    engine.forget(held)


def login(home: Path, server: str, token: str) -> None:
    """Have the docker client log in, without a word to the server."""
    auth = b64encode(f"beaker:{token}".encode()).decode()
    (home / "config.json").write_text(json.dumps({"auths": {server: {"auth": auth}}}))


def docker(home: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the docker client with a home of its own."""
    command = ["docker", "--config", str(home), *words]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("token", [None, "wrong", "other"])
def test_a_push_without_the_right_token_is_refused(
    beaker: LocalBeaker, engine: Engine, tmp_path: Path, token: str | None
) -> None:
    """No token, a wrong one, or that of another image: the docker client says that it may not."""
    repository = Repository(beaker).make()
    place = rest(beaker, "GET", f"/api/v3/images/{repository.image}/repository?upload=True").json()
    name, _, tag = place["imageTag"].rpartition(":")
    engine.door.tag(engine.id(engine.load(10)), name, tag)
    if token is not None:
        secret = Repository(beaker).make().token if token == "other" else token
        login(tmp_path, place["auth"]["server_address"], secret)
    pushed = docker(tmp_path, "push", place["imageTag"], check=False)
    assert pushed.returncode != 0
    assert any(word in pushed.stderr for word in ("denied", "unauthorized", "no basic auth")), pushed.stderr
    assert Blobs(beaker.layout.blobs).all() == ([], [])


def test_a_push_outlives_a_restart_of_the_server(beakers: Beakers, engine: Engine, tmp_path: Path) -> None:
    """The server ends in the middle of a push; by the engine's own patience, or repeated, it is whole."""
    first = beakers.start()
    reference = engine.load(90 * MB, 90 * MB)
    repository = Repository(first).make()
    place = rest(first, "GET", f"/api/v3/images/{repository.image}/repository?upload=True").json()
    name, _, tag = place["imageTag"].rpartition(":")
    engine.door.tag(engine.id(reference), name, tag)
    login(tmp_path, place["auth"]["server_address"], repository.token)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(docker, tmp_path, "push", place["imageTag"], check=False)
        deadline = time.monotonic() + 120
        while sum(file.stat().st_size for file in first.layout.blobs.glob("uploads/*")) < 5 * MB:
            assert time.monotonic() < deadline and not pushing.done()
            time.sleep(0.005)
        first.stop()
        second = beakers.start()
        pushing.result()
    docker(tmp_path, "push", place["imageTag"])
    repository.beaker = second
    assert repository.commit().status_code == 200
    held = engine.id(reference)
    engine.forget(held)
    backend = backend_of(second)
    assert ImageProvider(backend).provide(ImageSource(beaker=repository.image), job_of(backend)) == held
    engine.forget(held)


def test_two_pushes_of_the_same_layers_at_once(beaker: LocalBeaker, engine: Engine) -> None:
    """Two clients push one image under two names at the same time: both are whole."""
    reference = engine.load(20 * MB, 20 * MB)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda name: create(beaker, name, reference), ("one", "two")))
    assert {image.docker_id for image in made} == {engine.id(reference)}
    assert len(Blobs(beaker.layout.blobs).all()[0]) == 3


def test_jobs_that_need_one_image_pull_it_once(beaker: LocalBeaker, engine: Engine) -> None:
    """Eight jobs at once, one pull, and one image ID for all."""
    reference = engine.load(20 * MB)
    held = engine.id(reference)
    image = create(beaker, "one", reference)
    engine.forget(held)
    backend = backend_of(beaker)
    provider = ImageProvider(backend)
    jobs = [job_of(backend) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda job: provider.provide(ImageSource(beaker=image.id), job), jobs)
        assert set(got) == {held}
    assert [line.rpartition(": ")[2] for line in pulls_of(backend)] == ["pulling", "pulled"]
    engine.forget(held)


def test_a_damaged_image_is_no_jobs(beaker: LocalBeaker, engine: Engine) -> None:
    """A blob that was changed on the disk fails the pull; a push of the same image heals it."""
    reference = engine.load(2 * MB)
    held = engine.id(reference)
    kept = archive_of(reference)
    image = create(beaker, "one", reference)
    engine.forget(held)
    blobs = Blobs(beaker.layout.blobs)
    largest = max(blobs.all()[0], key=lambda digest: blobs.size(digest) or 0)
    content = bytearray(blobs.path(largest).read_bytes())
    content[1000] ^= 1
    blobs.path(largest).write_bytes(content)
    backend = backend_of(beaker)
    provider = ImageProvider(backend)
    with pytest.raises(ImageTrouble):
        provider.provide(ImageSource(beaker=image.id), job_of(backend))
    assert any("damaged" in line for line in beaker.lines)
    engine.door.load([kept])
    create(beaker, "again", reference)
    engine.forget(held)
    assert provider.provide(ImageSource(beaker=image.id), job_of(backend)) == held
    engine.forget(held)


def archive_of(reference: str) -> bytes:
    """What ``docker save`` gives of an image."""
    return subprocess.run(["docker", "save", reference], check=True, capture_output=True).stdout


def test_images_that_the_engine_has_are_used_as_they_are(
    beakers: Beakers, busybox_image: Any, engine: Engine
) -> None:
    """By reference, by ID, and by a name of the configuration; nothing is pulled."""
    beaker = beakers.start(Config(images={"ai2/tools": REFERENCE}))
    backend = backend_of(beaker)
    provider, job = ImageProvider(backend), job_of(backend)
    with beaker.client() as client:
        named = client.image.get("ai2/tools").id
    for source in (
        ImageSource(docker=REFERENCE),
        ImageSource(docker=busybox_image.id),
        ImageSource(beaker=named),
    ):
        assert provider.provide(source, job) == engine.id(REFERENCE)
    assert pulls_of(backend) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (ImageSource(docker="127.0.0.1:1/no/such:image"), "refused"),
        (ImageSource(docker="sha256:" + "0" * 64), "no image of this ID"),
        (ImageSource(docker="no reference!"), "not an image reference"),
        (ImageSource(beaker="01ARZ3NDEKTSV4RRFFQ69G5FAV"), "deleted"),
        (ImageSource(beaker="uncommitted"), "not committed"),
    ],
)
def test_images_that_cannot_be_had(beaker: LocalBeaker, source: ImageSource, says: str) -> None:
    """The job's failure says what the engine says."""
    if source.beaker == "uncommitted":
        source = ImageSource(beaker=Repository(beaker).make().image)
    backend = backend_of(beaker)
    with pytest.raises(ImageTrouble, match=says):
        ImageProvider(backend).provide(source, job_of(backend))


def test_experiments_run_the_image_that_was_committed(beaker: LocalBeaker, engine: Engine) -> None:
    """From ``image.create`` to the job, all with the real client, after the engine has lost the image; the
    job's log shows a file that is in this image only."""
    busybox = Path("/bin/busybox").read_bytes()
    secret = os.urandom(8).hex()
    reference = f"dispatch-test-images:{secret}"
    made = engine.load_archive(
        reference,
        busybox_archive(busybox, ["sh", "cat"], more={"/bin/said": secret.encode()}, reference=reference),
    )
    image = create(beaker, "tools", reference)
    engine.forget(made)
    task = BeakerTaskSpec.new(
        "say", beaker_image="me/tools", result_path="/results", command=["/bin/cat", "/bin/said"]
    )
    with beaker.client() as client:
        workload = client.experiment.create(spec=BeakerExperimentSpec(tasks=[task]))
        deadline = time.monotonic() + 120
        while not (job := client.workload.get_latest_job(workload)) or not job.status.HasField("finalized"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert job.status.exit_code == 0, job
        assert secret.encode() in b"".join(line.message for line in client.job.logs(job))
        client.workload.delete(workload)
    assert engine.id(image.docker_tag) == made
    engine.forget(made)


def test_a_pull_ends_with_the_wish_for_it(beaker: LocalBeaker, engine: Engine) -> None:
    """A job that is to stop gives its pull up, and who waits for the same image takes it over."""
    reference = engine.load(20 * MB)
    held = engine.id(reference)
    image = create(beaker, "one", reference)
    engine.forget(held)
    backend = backend_of(beaker)
    provider = ImageProvider(backend)
    stopped, other, third = (job_of(backend) for _ in range(3))
    with backend.database.write() as tx:
        tx.execute("UPDATE jobs SET canceled = 1 WHERE id = ?", (stopped,))
    with pytest.raises(ImageTrouble, match="given up"):
        provider.provide(ImageSource(beaker=image.id), stopped)
    assert engine.door.inspect_image(held) is None
    with ThreadPoolExecutor(2) as pool:
        got = pool.map(lambda job: provider.provide(ImageSource(beaker=image.id), job), (other, third))
        assert set(got) == {held}
    engine.forget(held)


def test_an_image_that_cannot_be_committed_says_so(beaker: LocalBeaker) -> None:
    """The real client raises what the server says, and does not try for ever."""
    repository = Repository(beaker, "empty").make()
    with beaker.client() as client, pytest.raises(BeakerError, match="nothing to commit"):
        client.image.commit(client.image.get(repository.image))
