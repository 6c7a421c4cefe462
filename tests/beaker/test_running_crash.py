"""A server that ends at any moment of a job: before and after each of its writes and of its calls that change
something. The next one brings the job to the same end, and it runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door
from dispatch._docker.containers import ContainerSpec
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import Assumptions, Config
from dispatch.beakerd.runner import Runner
from dispatch.beakerd.runner.containers import JOB_LABEL, OWNER_LABEL, name_of, owner_of
from dispatch.beakerd.spec import DataMount
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Code, Status
from dispatch.testing.beaker_runner import bare_backend
from dispatch.testing.beaker_runs import HeldImages, Jobs, task
from dispatch.testing.processes import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("busybox_image"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

NO_END = 10**9
CHANGING = ("create", "start", "kill", "remove")


class CrashError(BaseException):
    """The end of everything; nobody handles it."""


class Fuse:
    """Ends the server at its n-th moment. ``seen`` counts them; once burnt, every moment is the end."""

    def __init__(self, moment: int):
        self._moment = moment
        self.seen = 0

    @property
    def burnt(self) -> bool:
        """Whether the end has come."""
        return self.seen > self._moment

    def pass_by(self) -> None:
        """Live through a moment, or not."""
        self.seen += 1
        if self.burnt:
            raise CrashError


class FusedDatabase:
    """A database in which every write has a moment before and after it."""

    def __init__(self, database: Any, fuse: Fuse):
        self._database = database
        self._fuse = fuse

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """See Database."""
        self._fuse.pass_by()
        with self._database.write() as tx:
            yield tx
        self._fuse.pass_by()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class Fused:
    """An object whose calls that change something have a moment before and after them."""

    def __init__(self, real: Any, fuse: Fuse, parts: dict[str, Any] | None = None):
        self._real = real
        self._fuse = fuse
        self._parts = parts or {}

    def __getattr__(self, name: str) -> Any:
        if name in self._parts:
            return self._parts[name]
        method = getattr(self._real, name)
        if name not in CHANGING:
            return method

        def call(*arguments: Any) -> Any:
            self._fuse.pass_by()
            answer = method(*arguments)
            self._fuse.pass_by()
            return answer

        return call


class Lives:
    """One state on the disk, and servers that live on it one after another."""

    def __init__(self, root: Path, door: Door, shared: Path):
        config = Config(host_paths=(shared,), assume=Assumptions(grace=0.3))
        self._door = door
        self.backend: Backend = replace(bare_backend(root, config), door=door)
        self.jobs = Jobs(self.backend)

    def live(self, job: str, moment: int = NO_END, engine: str | None = None) -> int:
        """Run to the end of the job and of all that it left, or to a moment; return how many passed.

        ``engine`` is the mark of the engine's start, where it is not to be the real one.
        """
        fuse = Fuse(moment)
        parts: dict[str, Any] = {"containers": Fused(self._door.containers, fuse)}
        if engine is not None:
            parts["bridge_stamp"] = lambda: engine
        door: Any = Fused(self._door, fuse, parts)
        database: Any = FusedDatabase(self.backend.database, fuse)
        runner = Runner(replace(self.backend, door=door, database=database), HeldImages(self._door))
        runner.adopt()
        until(lambda: fuse.burnt or self.is_over(job), "the job ends, or the server does")
        runner.close()
        return fuse.seen

    def is_over(self, job: str) -> bool:
        """Whether the job is finalized, and its container removed."""
        over = self.jobs.row(job)["finalized"] is not None
        return over and self._door.containers.inspect(name_of(job)) is None


@pytest.fixture
def lives_of(tmp_path: Path, door: Door) -> Iterator[Callable[[str], Lives]]:
    """Makes states."""
    made: list[Lives] = []
    shared = tmp_path / "shared"
    shared.mkdir()

    def make(name: str) -> Lives:
        made.append(Lives(tmp_path / name, door, shared))
        return made[-1]

    yield make
    for lives in made:
        for row in door.containers.labelled(OWNER_LABEL, owner_of(lives.backend.layout.root)):
            door.containers.remove(row.name)
        lives.backend.database.close()


def prints_up(lives: Lives, job: str) -> bool:
    """Whether a job has said that it is up."""
    return lives.jobs.log(job) == [b"up"]


def ready(lives: Lives, shared: Path, shell: str) -> str:
    """A job that says in a shared file that it ran."""
    mounts = (DataMount("/shared", host_path=str(shared), read_only=False),)
    return lives.jobs.ready(task(f'echo ran >> "/shared/$BEAKER_JOB_ID"; {shell}', mounts=mounts))


def test_every_moment_of_a_job(lives_of: Callable[[str], Lives], tmp_path: Path) -> None:
    """Wherever its server ended, a job ends with its log, result and metrics, having run once."""
    shell = "echo one; sleep 0.2; echo two; echo '{\"a\": 1}' > /results/metrics.json"
    whole = lives_of("whole")
    moments = whole.live(ready(whole, tmp_path / "shared", shell))
    assert moments >= 12
    for moment in range(moments):
        lives = lives_of(f"moment-{moment}")
        job = ready(lives, tmp_path / "shared", shell)
        lives.live(job, moment)
        lives.live(job)
        row = lives.jobs.row(job)
        assert (row["status"], row["exit_code"], row["metrics"]) == (Status.SUCCEEDED, 0, '{"a": 1}'), moment
        assert lives.jobs.log(job) == [b"one", b"two"], moment
        assert list(lives.jobs.result(job)) == ["metrics.json"], moment
        assert (tmp_path / "shared" / job).read_text() == "ran\n", moment


def test_every_moment_of_a_stop(lives_of: Callable[[str], Lives], tmp_path: Path) -> None:
    """A wish is carried out, whoever's it is to do so."""
    shell = "trap 'echo x > /results/x; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    for moment in range(3):
        lives = lives_of(f"moment-{moment}")
        job = ready(lives, tmp_path / "shared", shell)
        runner = Runner(lives.backend, HeldImages(lives.backend.door))
        runner.start(job)
        until(partial(prints_up, lives, job), "the job is up")
        runner.close()
        lives.jobs.wish(job)
        lives.live(job, moment)
        lives.live(job)
        row = lives.jobs.row(job)
        assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.MANUAL), moment
        assert (tmp_path / "shared" / job).read_text() == "ran\n", moment


@pytest.mark.parametrize(
    ("engine", "shell", "code"),
    [
        ("another", "kill -9 $$", Code.NODE_UNAVAILABLE),
        ("another", "exit 1", None),
        (None, "kill -9 $$", None),
    ],
)
def test_an_engine_that_was_started_anew_unseen(
    lives_of: Callable[[str], Lives], tmp_path: Path, engine: str | None, shell: str, code: Code | None
) -> None:
    """What ended with the machine while no server ran is resumed; what failed by itself has failed."""
    lives = lives_of("one")
    job = ready(lives, tmp_path / "shared", f"echo up; sleep 1; {shell}")
    runner = Runner(lives.backend, HeldImages(lives.backend.door))
    runner.start(job)
    until(partial(prints_up, lives, job), "the job is up")
    runner.close()
    lives.live(job, engine=engine)
    row = lives.jobs.row(job)
    assert row["canceled_code"] == code
    assert row["status"] == (Status.FAILED if code is None else Status.CANCELED)


def test_what_was_half_captured_is_replaced(lives_of: Callable[[str], Lives], tmp_path: Path) -> None:
    """Neither files nor rows of an earlier try stay."""
    lives = lives_of("one")
    job = ready(lives, tmp_path / "shared", "echo x > /results/x")
    dataset = lives.jobs.row(job)["result_dataset_id"]
    half = lives.backend.layout.files(dataset)
    half.mkdir(parents=True)
    (half / "old").write_bytes(b"half")
    with lives.backend.database.write() as tx:
        tx.execute("INSERT INTO dataset_files VALUES (?, 'old', 4, x'00', 1)", (dataset,))
    lives.live(job)
    assert lives.jobs.result(job) == {"x": b"x\n"}
    assert [path.name for path in half.iterdir()] == ["x"]


def test_a_container_that_somebody_removed(
    lives_of: Callable[[str], Lives], door: Door, tmp_path: Path
) -> None:
    """The job fails and says so; it is not run again."""
    lives = lives_of("one")
    job = ready(lives, tmp_path / "shared", "echo up; sleep 100")
    runner = Runner(lives.backend, HeldImages(door))
    runner.start(job)
    lives.jobs.until(job, lambda _: lives.jobs.log(job) == [b"up"], 60)
    door.containers.remove(name_of(job))
    row = lives.jobs.end(job)
    runner.close()
    assert (row["status"], row["message"]) == (Status.FAILED, "its container was removed by somebody")
    assert lives.jobs.log(job) == [b"up"]
    assert (tmp_path / "shared" / job).read_text() == "ran\n"


def test_a_container_of_somebody_else(lives_of: Callable[[str], Lives], door: Door, tmp_path: Path) -> None:
    """One that has the name of ours is left alone, and the job fails."""
    lives = lives_of("one")
    job = ready(lives, tmp_path / "shared", "true")
    theirs = door.containers.create(ContainerSpec("dispatch-test-busybox:1", ("true",), name=name_of(job)))
    try:
        runner = Runner(lives.backend, HeldImages(door))
        runner.start(job)
        row = lives.jobs.end(job)
        runner.close()
        assert row["status"] == Status.FAILED
        assert name_of(job) in row["message"]
        found = door.containers.inspect(theirs)
        assert found is not None
        assert found.status == "created"
    finally:
        door.containers.remove(theirs)


def test_what_an_earlier_server_left_is_swept(
    lives_of: Callable[[str], Lives], door: Door, tmp_path: Path
) -> None:
    """Containers, secrets and tokens of jobs that have ended, or are gone, are removed at the next start."""
    lives = lives_of("one")
    job, gone = ready(lives, tmp_path / "shared", "true"), lives.backend.ids.new()
    lives.live(job)
    owner = owner_of(lives.backend.layout.root)
    for each in (job, gone):
        labels = {OWNER_LABEL: owner, JOB_LABEL: each}
        door.containers.create(
            ContainerSpec("dispatch-test-busybox:1", ("true",), name=name_of(each), labels=labels)
        )
        (lives.backend.layout.job(each) / "secrets").mkdir(parents=True)
        (lives.backend.layout.job(each) / "secrets" / "0").write_bytes(b"s3cr3t")
    runner = Runner(lives.backend, HeldImages(door))
    runner.adopt()
    until(
        lambda: (
            not door.containers.labelled(OWNER_LABEL, owner)
            and not any((lives.backend.layout.job(each) / "secrets").exists() for each in (job, gone))
        ),
        "all is swept",
    )
    runner.close()
