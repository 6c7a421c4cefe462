"""What goes to a job on Beaker and comes back from it: inputs, source, secrets, results, work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import DatasetMount
from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, Config
from dispatch.engine.base import Event, JobSpec, Mount, Reason
from dispatch.engine.beaker import Extras
from dispatch.environment import LocalId
from dispatch.location import BeakerDataset, HostPath, SharedPath, Spool
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_engine import BeakerLab, end_of

pytestmark = pytest.mark.engine

OUT = "/dispatch/output"
COMPLETED = f'echo \'{{"state": "completed"}}\' > {OUT}/outcome.json'
FAILED = f'echo \'{{"state": "failed"}}\' > {OUT}/outcome.json'
SECRET = "s3cret-value-of-ours"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A drive that the machine of the jobs sees under the same name."""
    drive = tmp_path / "drive"
    drive.mkdir()
    return drive


@pytest.fixture
def lab(
    beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path, shared: Path, busybox_image: ImageRecord
) -> Iterator[BeakerLab]:
    """An engine, and jobs in busybox."""
    assert busybox_image
    lab = BeakerLab(beaker_of(Config(host_paths=(shared,), assume=Assumptions(grace=1.0))), tmp_path)
    yield lab
    lab.close()


def run(lab: BeakerLab, job: JobSpec) -> Event:
    """Run a job to its end."""
    lab.engine.submit([job])
    return end_of(lab.engine, job.key)


def release(lab: BeakerLab, job: JobSpec) -> None:
    """Have the engine forget it."""
    lab.engine.release(*lab.engine.submit([job]))
    lab.engine.settle()


@pytest.mark.parametrize("packed", [False, True])
def test_a_result_that_belongs_here_comes(lab: BeakerLab, packed: bool) -> None:
    """Outcome and result are in the attempt's directory when the end is told, however the job packed it."""
    fill = f"echo one > {OUT}/result/a; mkdir {OUT}/result/d; echo two > {OUT}/result/d/b"
    pack = f"; cd {OUT}/result && tar -cf ../result.tar . && rm -r {OUT}/result" if packed else ""
    job = lab.job("some.1", f"mkdir -p {OUT}/result; {fill}{pack}; {COMPLETED}")
    event = run(lab, job)
    result = job.attempt_dir / "output" / "result"
    assert (event.reason, event.exit_code, event.output) == (Reason.STEP, 0, None)
    assert (job.attempt_dir / "output" / "outcome.json").read_text() == '{"state": "completed"}\n'
    assert (result / "a").read_text() == "one\n" and (result / "d" / "b").read_text() == "two\n"
    captured = lab.tries(job.key)[0].result_dataset
    release(lab, job)
    # What was collected is on Beaker no more; the experiment is, for people.
    assert lab.left() == [] and lab.experiments(job.key)
    assert captured not in [each.id for each in lab.door.datasets.search(results=None)]


def test_an_empty_result_is_one(lab: BeakerLab) -> None:
    """A job that writes nothing has an empty result."""
    job = lab.job("some.1", COMPLETED)
    assert run(lab, job).reason is Reason.STEP
    assert list((job.attempt_dir / "output" / "result").iterdir()) == []


def test_a_result_that_stays_is_pointed_at(lab: BeakerLab) -> None:
    """Where results stay on Beaker, only the outcome comes, and the event says where the rest is."""
    job = lab.job("some.1", f"mkdir -p {OUT}/result; echo one > {OUT}/result/a; {COMPLETED}")
    job = replace(job, collects=False, mounts=())
    event = run(lab, job)
    assert isinstance(event.output, BeakerDataset)
    assert lab.door.datasets.read(event.output.id, "result/a") == b"one\n"
    assert list((job.attempt_dir / "output" / "result").iterdir()) == []
    assert (job.attempt_dir / "output" / "outcome.json").exists()
    assert event.output.subpath == "result" and not event.output.packed
    assert lab.engine.output(*lab.engine.submit([job])) == BeakerDataset(event.output.id)
    release(lab, job)
    assert lab.left() == []
    assert lab.door.datasets.read(event.output.id, "result/a") == b"one\n"


def test_a_packed_result_is_pointed_at_as_such(lab: BeakerLab) -> None:
    """Where the job has packed it, the event says so."""
    pack = f"mkdir -p {OUT}/r; echo one > {OUT}/r/a; cd {OUT}/r && tar -cf ../result.tar . && rm -r {OUT}/r"
    job = replace(lab.job("some.1", f"{pack}; {COMPLETED}"), collects=False, mounts=())
    event = run(lab, job)
    captured = lab.tries(job.key)[0].result_dataset
    assert event.output == BeakerDataset(captured, "result.tar", packed=True)


def test_work_comes_back_and_goes_again(lab: BeakerLab, tmp_path: Path) -> None:
    """The work of a failed attempt is here afterwards, and lies before the next one's job."""
    work = tmp_path / "work"
    (work / "old").mkdir(parents=True)
    (work / "old" / "x").write_text("before\n")
    mount = Mount(HostPath(work), "/dispatch/work", read_only=False)
    script = f"mkdir -p {OUT}/work; cat /dispatch/before/work/old/x > {OUT}/work/seen; {FAILED}; exit 1"
    first = lab.job("some.1", script)
    first = replace(first, mounts=(*first.mounts, mount))
    assert run(lab, first).exit_code == 1
    assert {each.name: each.read_text() for each in work.iterdir()} == {"seen": "before\n"}
    second = lab.job("some.2", f"cat /dispatch/before/work/seen; {COMPLETED}")
    assert run(lab, replace(second, mounts=(*second.mounts, mount))).exit_code == 0
    assert (second.attempt_dir / "out.log").read_text() == "before\n"
    assert (work / "seen").read_text() == "before\n"


def test_what_a_job_reads(lab: BeakerLab, tmp_path: Path) -> None:
    """Files of this machine, datasets and the source are where the container contract has them."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "entrypoint.sh").write_text("cat /dispatch/inputs/0/data; . /dispatch/job/more.sh\n")
    (tmp_path / "job" / "more.sh").write_text("tar -tf /dispatch/source.tar; ls -R /dispatch/packed /boot\n")
    for name, file in (("source", "main.py"), ("input", "data"), ("boot", "start.sh")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(f"this is {name}\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "link").symlink_to("..")
    (tmp_path / "odd2").mkdir()
    (tmp_path / "odd2" / "link").symlink_to("file")
    (tmp_path / "odd2" / "file").touch()
    job = lab.job("some.1", "")
    mounts = (
        *job.mounts,
        Mount(HostPath(tmp_path / "job"), "/dispatch/job"),
        Mount(HostPath(tmp_path / "input"), "/dispatch/inputs/0", content="result.1"),
        Mount(HostPath(tmp_path / "odd2"), "/dispatch/inputs/1"),
        Mount(HostPath(tmp_path / "boot"), "/boot", content="boot.1"),
        Mount(HostPath(tmp_path / "scratch"), "/dispatch/scratch", read_only=False),
    )
    source = HostPath(tmp_path / "source")
    command = ("/bin/sh", "/dispatch/job/entrypoint.sh")
    assert run(lab, replace(job, command=command, mounts=mounts, source=source)).exit_code == 0
    words = (job.attempt_dir / "out.log").read_text().split()
    assert words[:3] == ["this", "is", "input"]
    assert {"main.py", "1.tar", "start.sh"} <= set(words)


def test_secrets_are_files_and_leave_no_trace(lab: BeakerLab) -> None:
    """A job's secrets are where it looks for them, in no log and no specification, and gone in the end."""
    job = lab.job(
        "some.1", 'cat /dispatch/secrets/TOKEN; echo "$TOKEN $OTHER" | tr a-z A-Z | cut -c1-3; exit 1'
    )
    job = replace(job, secrets={"TOKEN": SECRET, "OTHER": "hidden"}, secret_variables=("TOKEN",))
    lab.engine.submit([job])
    event = end_of(lab.engine, job.key)
    assert (job.attempt_dir / "out.log").read_text() == "***S3C\n"
    assert event.exit_code == 1 and SECRET not in event.message
    assert SECRET not in lab.experiments(job.key)[0].description
    assert len(lab.left()) == 2
    release(lab, job)
    assert lab.left() == []


def test_what_an_earlier_client_made_is_removed_by_a_later_one(lab: BeakerLab, tmp_path: Path) -> None:
    """A client that was killed leaves data and secrets behind; whoever sweeps its run removes them."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "x").write_text("x")
    job = lab.job("some.1", "true")
    job = replace(
        job, secrets={"A": SECRET}, mounts=(*job.mounts, Mount(HostPath(tmp_path / "job"), "/dispatch/job"))
    )
    run(lab, job)
    assert len(lab.left()) == 2
    later = lab.again()
    (handle,) = later.find("contract")
    later.release(handle)
    later.settle()
    assert lab.left() == [] and later.find("contract") == []


def test_a_shared_drive_is_mounted(lab: BeakerLab, shared: Path) -> None:
    """On a drive that the jobs' machines see, results are written in place: nothing is captured or moved."""
    for name in ("output", "work"):
        (shared / name).mkdir()
    job = lab.job("some.1", f"echo one > {OUT}/a; echo two > /dispatch/work/b; {COMPLETED}")
    mounts = (
        Mount(SharedPath(shared / "output"), OUT, read_only=False),
        Mount(SharedPath(shared / "work"), "/dispatch/work", read_only=False),
    )
    job = replace(job, mounts=mounts)
    event = run(lab, job)
    assert event.output is None and event.exit_code == 0
    assert (shared / "output" / "a").read_text() == "one\n" and (shared / "work" / "b").read_text() == "two\n"
    assert lab.door.datasets.files(lab.tries(job.key)[0].result_dataset) == []
    assert lab.engine.output(*lab.engine.submit([job])) == SharedPath(shared / "output")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": LocalId("sha256:0")}, "only on this machine"),
        ({"mounts": (Mount(HostPath(Path("/etc")), "/data", read_only=False),)}, "cannot write to"),
        ({"mounts": (Mount(Spool(Path("/etc")), "/data"),)}, "only in memory"),
        ({"mounts": (Mount(HostPath(Path("/nowhere")), "/data"),)}, "cannot be sent"),
    ],
)
def test_what_cannot_be_brought_is_said(lab: BeakerLab, change: dict[str, Any], words: str) -> None:
    """A job that cannot have what it needs ends at once, with the reason, and leaves nothing on Beaker."""
    job = replace(lab.job("some.1", "true"), secrets={"A": SECRET}, **change)
    event = run(lab, job)
    assert event.reason is Reason.INFRA and words in event.message
    release(lab, job)
    assert lab.left() == [] and lab.experiments(job.key) == []


def test_what_the_user_wants_in_every_job(lab: BeakerLab) -> None:
    """Mounts and variables for all are there; a job's own variables win, secrets of the workspace count."""
    made = lab.door.datasets.create("mine")
    lab.door.datasets.write(made, "x", b"extra\n")
    lab.door.datasets.commit(made.dataset.id)
    lab.door.secrets.write("theirs", SECRET)
    extras = Extras((DatasetMount(made.dataset.id, "/extra"),), {"A": "1", "B": "1"}, {"C": "theirs"})
    engine = lab.again(extras=extras)
    job = replace(lab.job("some.1", 'cat /extra/x; echo "$A $B ${#C}"'), env={"B": "2"})
    engine.submit([job])
    end_of(engine, job.key)
    assert (job.attempt_dir / "out.log").read_text() == f"extra\n1 2 {len(SECRET)}\n"
