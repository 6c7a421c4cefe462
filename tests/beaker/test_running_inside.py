"""What a job finds in its container: variables, secrets, mounts, limits, and the way to the server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.beakerd.spec import DataMount, EnvVar, ImageSource, Resources
from dispatch.beakerd.store.lifecycle import Status
from dispatch.testing.beaker_runs import Rig
from dispatch.testing.busybox import REFERENCE

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

MIB = 1 << 20
MARK = "\N{REPLACEMENT CHARACTER}".encode()


def secret(backend: Backend, name: str, value: bytes) -> None:
    """Put a secret into the workspace."""
    with backend.database.write() as tx:
        tx.execute(
            "INSERT INTO secrets SELECT w.id, ?, ?, u.id, 1, 1 FROM workspaces w, users u LIMIT 1",
            (name, value),
        )


def dataset(backend: Backend, files: dict[str, bytes], committed: bool = True) -> str:
    """Make a dataset of these files."""
    made = backend.ids.new()
    for name, content in files.items():
        path = backend.layout.files(made) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with backend.database.write() as tx:
        tx.execute(
            "INSERT INTO datasets (id, author_id, workspace_id, created, committed)"
            " SELECT ?, u.id, w.id, 1, ? FROM workspaces w, users u LIMIT 1",
            (made, 1 if committed else None),
        )
    return made


def test_variables(rig: Rig) -> None:
    """The user's values, secrets, empty ones, and Beaker's own, which nobody can set."""
    secret(rig.backend, "hidden", "täglich 'so'\nund so".encode())
    env = (
        EnvVar("PLAIN", "a $b"),
        EnvVar("EMPTY"),
        EnvVar("HIDDEN", secret="hidden"),
        EnvVar("BEAKER_JOB_ID", "mine"),
    )
    job = rig.run('echo "$PLAIN|$EMPTY|$HIDDEN|"; env | grep ^BEAKER | sort', env=env)
    row = rig.jobs.end(job)
    text = b"\n".join(rig.jobs.log(job)).decode()
    assert text.startswith("a $b||täglich 'so'\nund so|\n")
    said = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("BEAKER_"))
    assert said["BEAKER_JOB_ID"] == job
    assert said["BEAKER_RESULT_DATASET_ID"] == row["result_dataset_id"]
    assert said["BEAKER_NODE_HOSTNAME"] == "local-1"
    assert said["BEAKER_ASSIGNED_GPU_COUNT"] == "0"
    assert said["BEAKER_WORKLOAD_ID"] == said["BEAKER_EXPERIMENT_ID"] == row["experiment_id"]


def test_a_missing_secret(rig: Rig) -> None:
    """The job fails with its name."""
    job = rig.run("true", env=(EnvVar("X", secret="nowhere"),))
    row = rig.jobs.end(job)
    assert row["status"] == Status.FAILED
    assert "'nowhere'" in row["message"]


def test_a_secret_stays_where_it_is_asked_for(rig: Rig) -> None:
    """It is in no label, no event, no log of ours; a mounted one is gone from the disk after the job."""
    secret(rig.backend, "one", b"s3cr3t-one")
    secret(rig.backend, "two", b"s3cr3t-two")
    job = rig.run(
        "wc -c < /key; touch /key; sleep 0.5",
        env=(EnvVar("ONE", secret="one"),),
        mounts=(DataMount("/key", secret="two"),),
    )
    row = rig.jobs.end(job)
    # The engine may take note of the two streams in any order.
    assert b"10" in rig.jobs.log(job)
    assert b"Read-only" in b"".join(rig.jobs.log(job))
    rig.until_clean(job)
    for path in rig.backend.layout.root.rglob("*"):
        if path.is_file() and not path.name.startswith("beaker.db"):
            assert b"s3cr3t" not in path.read_bytes(), path
    with rig.backend.database.read() as tx:
        for table in ("jobs", "tasks", "job_events", "experiments"):
            assert not [
                tuple(each) for each in tx.execute(f"SELECT * FROM {table}") if "s3cr3t" in str(tuple(each))
            ]
    assert row["message"] is None


@pytest.mark.parametrize(
    ("sub_path", "command", "expected"),
    [
        (None, "cat /in/a /in/d/b; touch /in/x 2>/dev/null || echo ro", [b"A", b"B", b"ro"]),
        ("d", "ls /in; cat /in/b", [b"b", b"B"]),
        ("d/b", "cat /in", [b"B"]),
    ],
)
def test_datasets(rig: Rig, sub_path: str | None, command: str, expected: list[bytes]) -> None:
    """A dataset is shown whole, or a directory or file of it, and cannot be changed."""
    made = dataset(rig.backend, {"a": b"A\n", "d/b": b"B\n"})
    job = rig.run(command, mounts=(DataMount("/in", beaker=made, sub_path=sub_path),))
    rig.jobs.end(job)
    assert rig.jobs.log(job) == expected


@pytest.mark.parametrize("sub_path", ["../x", "no/such", "/../../etc", "d/../../x"])
def test_sub_paths_that_are_not_there(rig: Rig, sub_path: str) -> None:
    """Nothing but what is in the dataset can be mounted; the job fails with the path."""
    made = dataset(rig.backend, {"d/b": b"B\n"})
    job = rig.run("true", mounts=(DataMount("/in", beaker=made, sub_path=sub_path),))
    row = rig.jobs.end(job)
    assert (row["status"], row["started"]) == (Status.FAILED, None)
    assert repr(sub_path) in row["message"]


def test_a_link_does_not_lead_out_of_a_dataset(rig: Rig) -> None:
    """Not even one that somebody put there."""
    made = dataset(rig.backend, {"d/b": b"B\n"})
    (rig.backend.layout.files(made) / "out").symlink_to("/etc")
    job = rig.run("true", mounts=(DataMount("/in", beaker=made, sub_path="out/passwd"),))
    assert "leads out" in rig.jobs.end(job)["message"]


def test_an_uncommitted_dataset(rig_of: Callable[..., Rig]) -> None:
    """It is mounted by the switch only."""
    for allowed in (False, True):
        rig = rig_of(Config(assume=replace(Config().assume, mount_uncommitted=allowed)), f"u{allowed}")
        made = dataset(rig.backend, {"a": b"A\n"}, committed=False)
        job = rig.run("cat /in/a", mounts=(DataMount("/in", beaker=made),))
        assert (rig.jobs.end(job)["status"] == Status.SUCCEEDED) is allowed


def test_host_paths(rig_of: Callable[..., Rig], tmp_path: Path) -> None:
    """Only what the configuration names, and what is really below it."""
    open_to_jobs, closed = tmp_path / "open", tmp_path / "closed"
    for path in (open_to_jobs, closed):
        path.mkdir()
    (open_to_jobs / "out").symlink_to(closed)
    rig = rig_of(Config(host_paths=(open_to_jobs,)))
    job = rig.run("echo x > /h/x", mounts=(DataMount("/h", host_path=str(open_to_jobs), read_only=False),))
    assert rig.jobs.end(job)["status"] == Status.SUCCEEDED
    assert (open_to_jobs / "x").read_text() == "x\n"
    for path in (closed, open_to_jobs / "out", open_to_jobs / ".." / "closed", Path("/")):
        job = rig.run("true", mounts=(DataMount("/h", host_path=str(path)),))
        assert "does not allow it" in rig.jobs.end(job)["message"]


def test_memory(rig: Rig) -> None:
    """What needs more than it asked for is killed, and the message says so."""
    job = rig.run(
        "x=$(tr '\\0' a < /dev/zero | head -c 200000000); echo ${#x}", resources=Resources(memory=32 * MIB)
    )
    row = rig.jobs.end(job)
    assert (row["status"], "out of memory" in (row["message"] or "")) == (Status.FAILED, True), row


def test_shared_memory(rig: Rig) -> None:
    """It is 5 GiB unless the job says otherwise."""
    plain = rig.run("df -m /dev/shm | tail -1")
    asked = rig.run("df -m /dev/shm | tail -1", resources=Resources(shared_memory=64 * MIB))
    rig.jobs.end(plain)
    rig.jobs.end(asked)
    assert rig.jobs.log(plain)[0].split()[1] == b"5120"
    assert rig.jobs.log(asked)[0].split()[1] == b"64"


def test_gpus_that_the_host_lacks(rig_of: Callable[..., Rig], door: Door) -> None:
    """The job runs without any, and both its variable and an event say so."""
    assert "nvidia" not in door.info()["Runtimes"]
    rig = rig_of(Config(clusters=(ClusterConfig("ai2/a", (NodeConfig("local-1", gpus=2),)),)))
    show = 'echo "$BEAKER_ASSIGNED_GPU_COUNT $BEAKER_SIMULATED_GPU_COUNT"'
    job = rig.run(show, resources=Resources(gpus=2))
    rig.jobs.end(job)
    assert rig.jobs.log(job) == [b"2 2"]
    assert "simulated" in dict(rig.jobs.events(job))


def test_orphans_are_reaped(rig: Rig) -> None:
    """The container has an init of its own: what a job leaves behind does not pile up as zombies."""
    job = rig.run("for i in 1 2 3; do (sleep 0.1 &) ; done; sleep 1; ps -o stat,comm | grep -c ^Z; true")
    rig.jobs.end(job)
    assert rig.jobs.log(job) == [b"0"]


def test_a_huge_log(rig: Rig) -> None:
    """All lines are there, in order."""
    job = rig.run("seq 1 200000")
    rig.jobs.end(job)
    assert rig.jobs.log(job) == [b"%d" % number for number in range(1, 200001)]


def test_a_log_that_is_no_text(rig: Rig) -> None:
    """A long line is one line, also without an end; bytes that are no text the engine keeps as marks."""
    job = rig.run("head -c 100000 /dev/zero; printf '\\377\\n\\n\\376'")
    rig.jobs.end(job)
    assert rig.jobs.log(job) == [b"\0" * 100000 + MARK, b"", MARK]


def test_a_user_of_the_image_s_own(rig: Rig, door: Door) -> None:
    """Whoever the image runs as may write the result and read what is mounted; nobody else is made root."""
    reference = nobody_image(door)
    secret(rig.backend, "key", b"k3y")
    made = dataset(rig.backend, {"a": b"A\n"})
    job = rig.run(
        "id -u; cat /key /in/a; cat $BEAKER_CONFIG | wc -l; echo x > /deep/results/x",
        image=ImageSource(docker=reference),
        result_path="/deep/results",
        mounts=(DataMount("/key", secret="key"), DataMount("/in", beaker=made)),
    )
    assert rig.jobs.end(job)["status"] == Status.SUCCEEDED
    assert rig.jobs.log(job) == [b"65534", b"k3yA", b"5"]
    assert rig.jobs.result(job) == {"x": b"x\n"}


def nobody_image(door: Door) -> str:
    """The image with another user, made by a build of one line."""
    reference = f"{REFERENCE}-nobody"
    words = ["docker", "build", "--quiet", "--tag", reference, "-"]
    subprocess.run(
        words, input=f"FROM {REFERENCE}\nUSER nobody\n", text=True, check=True, capture_output=True
    )
    assert door.inspect_image(reference) is not None
    return reference
