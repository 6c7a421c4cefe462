"""Jobs that clone their source, in real containers, from real git over http, with and without a token."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dispatch import job as jobs
from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import Event, JobSpec, Mount, Reason
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
from dispatch.location import HostPath
from dispatch.testing.contracts_engine import end_of, running
from dispatch.testing.githost import GitHost, hosting
from dispatch.testing.repositories import commit, git, new

RUN = "test-clone"
TOKEN = "t0ken-of-the-clone"
LABEL = jobs.StepLabel("step", "step-id", "shell", 1)

pytestmark = pytest.mark.engine


@pytest.fixture
def engine(door: Door) -> Iterator[DockerEngine]:
    """An engine whose containers run as the caller, and are gone after the test."""
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    yield engine
    engine.close()
    for handle in engine.find(RUN):
        door.containers.remove(handle.engine_id)


@pytest.fixture
def host(tmp_path: Path, bridge: str) -> Iterator[GitHost]:
    """A git host that containers reach."""
    with hosting(GitHost(tmp_path / "host", address=bridge)) as host:
        yield host


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    """A repository with an older and a newer commit on main, on the host as ``repo.git``."""
    root = new(tmp_path / "repo", a_txt="old\n", sub__run_sh="#!/bin/sh\necho ran\n")
    (root / "sub" / "run.sh").chmod(0o755)
    commit(root)
    (root / "a.txt").write_text("new\n")
    commit(root)
    git(tmp_path, "clone", "-q", "--bare", str(root), "host/repo.git")
    return root


@dataclass
class Lab:
    """Makes jobs that clone, and runs them."""

    engine: DockerEngine
    image: str
    place: Path

    def job(self, clone: jobs.Clone, command: str, workdir: str = "/src", secrets: str = "") -> JobSpec:
        """A job that clones and runs a command; ``secrets`` is the value of the secret TOKEN."""
        attempt = self.place / "attempt"
        jobs.write_step_job(
            attempt / "job", LABEL, jobs.ShellTask(command), workdir, before=jobs.Before(clone=clone)
        )
        places = [("job", jobs.CONTAINER.job, True), ("output", jobs.CONTAINER.output, False)]
        places += [("src", jobs.CONTAINER.source, False)]
        if secrets:
            places.append(("secrets", clone.secrets_place, False))
        for name, _, _ in places:
            (attempt / name).mkdir(parents=True, exist_ok=True)
        (attempt / "output" / "result").mkdir()
        if secrets:
            (attempt / "secrets" / "TOKEN").write_text(secrets)
            (attempt / "secrets" / "TOKEN").chmod(0o600)
        return JobSpec(
            key="step.1",
            run=RUN,
            step="step",
            attempt=1,
            image=LocalId(self.image),
            command=jobs.CONTAINER.command(),
            attempt_dir=attempt,
            mounts=tuple(Mount(HostPath(attempt / name), target, only) for name, target, only in places),
            working_dir="/",
            env=jobs.environment(LABEL, {}, {}),
        )

    def run(self, job: JobSpec) -> tuple[Event, str]:
        """Run a job to its end, and return that and its log."""
        self.engine.submit([job])
        event = end_of(self.engine, job.key)
        return event, (job.attempt_dir / "out.log").read_text()


@pytest.fixture
def lab(engine: DockerEngine, git_image: ImageRecord, tmp_path: Path) -> Lab:
    """A lab with git in its image."""
    return Lab(engine, git_image.id, tmp_path / "lab")


def clone_of(root: Path, host: GitHost, revision: str = "HEAD", ref: str = "refs/heads/main") -> jobs.Clone:
    """The clone of a commit of the repository on the host."""
    found = git(root, "rev-parse", revision)
    return jobs.Clone(f"{host.url}/repo.git", found, ref, host.url, "robot")


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("revision", ["HEAD", "HEAD~1"])
def test_the_exact_commit(lab: Lab, host: GitHost, pushed: Path, modern: bool, revision: str) -> None:
    """Whichever commit it is, and whether the host gives it by its name or only in its history."""
    host.modern = modern
    clone = clone_of(pushed, host, revision)
    command = "cat ../a.txt && ./run.sh && git -C .. rev-parse HEAD && git -C .. status --short"
    event, said = lab.run(lab.job(clone, command, "/src/sub"))
    assert event.exit_code == 0, said
    text = "new" if revision == "HEAD" else "old"
    # What is announced, and what git says, comes on another stream and anywhere between.
    wanted = [text, "ran", clone.commit]
    assert [line for line in said.splitlines() if line in (*wanted, "old", "new")] == wanted
    assert ("fetching refs/heads/main" in said) == (not modern and revision == "HEAD~1")


def test_sha256_objects(lab: Lab, host: GitHost, tmp_path: Path) -> None:
    """A repository that names its objects by SHA-256."""
    root = new(tmp_path / "long", "--object-format=sha256", a_txt="long\n")
    git(tmp_path, "clone", "-q", "--bare", str(root), "host/repo.git")
    event, said = lab.run(lab.job(clone_of(root, host), "cat a.txt"))
    assert event.exit_code == 0, said
    assert "\nlong\n" in said


def test_submodules(lab: Lab, host: GitHost, pushed: Path, tmp_path: Path) -> None:
    """They come at their recorded commits, at any depth, by addresses relative to the remote's."""
    git(pushed, "checkout", "-q", "HEAD~1")
    around = new(tmp_path / "around", b_txt="b\n")
    git(tmp_path, "init", "-q", "--bare", "host/around.git")
    git(around, "remote", "add", "origin", f"{host.url}/around.git")
    git(around, "submodule", "add", "-q", "../repo.git", "deep/er")
    git(around / "deep" / "er", "checkout", "-q", "HEAD~1")
    commit(around)
    git(host.root / "around.git", "fetch", "-q", str(around), "+main:main")
    head = git(around, "rev-parse", "HEAD")
    clone = jobs.Clone(f"{host.url}/around.git", head, "refs/heads/main", host.url, "robot")
    event, said = lab.run(lab.job(clone, "cat b.txt deep/er/a.txt"))
    assert event.exit_code == 0, said
    assert "\nb\nold\n" in said


def traces(job: JobSpec, name: str, secret: str) -> list[str]:
    """Where a secret is found: in the container's description, the log, the job's files, the source."""
    told = subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True).stdout
    found = ["docker inspect"] if secret in told else []
    files = [path for path in job.attempt_dir.rglob("*") if path.is_file() and "secrets" not in path.parts]
    return found + [str(path) for path in files if secret.encode() in path.read_bytes()]


def test_a_token_leaves_no_trace(lab: Lab, host: GitHost, pushed: Path) -> None:
    """It opens the host, and is nowhere else: not in the environment, the source, the log; and then gone."""
    host.password = TOKEN
    clone = replace(clone_of(pushed, host), token="TOKEN", dropped=("TOKEN",))
    command = "cat a.txt; env; cat .git/config; ls -A /dispatch/secrets /tmp; ps w -o args"
    job = lab.job(clone, command, secrets=TOKEN + "\n")
    event, said = lab.run(job)
    assert event.exit_code == 0, said
    assert {*host.users} == {"robot"}
    assert f"url = {host.url}/repo.git\n" in said
    assert TOKEN not in said
    assert traces(job, event.engine_id, TOKEN) == []
    assert not (job.attempt_dir / "secrets" / "TOKEN").exists()


def test_a_secret_that_the_step_names_stays(lab: Lab, host: GitHost, pushed: Path) -> None:
    """It is the step's too."""
    host.password = TOKEN
    job = lab.job(replace(clone_of(pushed, host), token="TOKEN"), "ls /dispatch/secrets", secrets=TOKEN)
    event, said = lab.run(job)
    assert event.exit_code == 0, said
    assert "TOKEN" in said.splitlines()


def test_a_token_goes_to_its_own_host_alone(
    lab: Lab, host: GitHost, pushed: Path, bridge: str, tmp_path: Path
) -> None:
    """A submodule on another host that asks for a password does not get it."""
    host.password = TOKEN
    with hosting(GitHost(tmp_path / "host", address=bridge, password=TOKEN)) as other:
        (pushed / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = {other.url}/repo.git\n')
        entry = f"160000,{git(pushed, 'rev-parse', 'HEAD~1')},s"
        git(pushed, "update-index", "--add", "--cacheinfo", entry)
        git(pushed, "add", ".gitmodules")
        git(pushed, "commit", "-q", "-m", "s")
        git(host.root / "repo.git", "fetch", "-q", str(pushed), "+main:main")
        job = lab.job(replace(clone_of(pushed, host), token="TOKEN"), "true", secrets=TOKEN)
        event, said = lab.run(job)
        assert event.exit_code == 66
        assert "the submodules of" in said
        assert host.users
        assert other.asked
        assert other.users == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"commit": "0" * 40}, "does not hold the commit 0000"),
        ({"commit": "0" * 40, "ref": ""}, "does not give the commit 0000"),
        ({"url": "http://127.0.0.1:9/x.git"}, "does not give refs/heads/main"),
        ({"url": "git@127.0.0.1:x.git"}, "the image has no ssh"),
        ({"token": "TOKEN"}, "the secret TOKEN, which is the clone's token, did not come"),
        ({"url": "ext::sh -c 'touch /src/gone'"}, "does not give refs/heads/main"),
    ],
)
def test_what_cannot_be_cloned(
    lab: Lab, host: GitHost, pushed: Path, change: dict[str, str], expected: str
) -> None:
    """The phase source ends with its own exit code, and its last word is the reason."""
    clone = replace(clone_of(pushed, host), **change)  # type: ignore[arg-type]
    job = lab.job(clone, "echo never")
    event, said = lab.run(job)
    outcome = jobs.read_outcome(job.attempt_dir / "output")
    assert outcome is not None
    assert (event.exit_code, outcome.phase) == (66, "source")
    assert expected in said.splitlines()[-1]
    assert "never" not in said
    assert not (job.attempt_dir / "src" / "gone").exists()


def test_an_image_without_git(lab: Lab, host: GitHost, pushed: Path, busybox_image: ImageRecord) -> None:
    """The message names git and both remedies."""
    lab.image = busybox_image.id
    event, said = lab.run(lab.job(clone_of(pushed, host), "true"))
    assert event.exit_code == 66
    assert "the image has no git" in said.splitlines()[-1]
    assert "source: export" in said.splitlines()[-1]


def test_programs_of_the_repository_do_not_run(lab: Lab, host: GitHost, pushed: Path) -> None:
    """Neither hooks nor filters that attributes name; files under git-lfs stay pointers without it."""
    (pushed / ".gitattributes").write_text("*.bin filter=lfs\n*.txt filter=spy\n")
    (pushed / "x.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    commit(pushed)
    git(host.root / "repo.git", "fetch", "-q", str(pushed), "+main:main")
    event, said = lab.run(lab.job(clone_of(pushed, host), "cat x.bin; ls .git/hooks"))
    assert "\nversion https://git-lfs" in said
    assert event.exit_code != 0
    assert "hooks: No such file" in said


def test_a_clone_is_cancelled_at_once(lab: Lab, host: GitHost, pushed: Path) -> None:
    """TERM is heard while git waits for a host that says nothing."""
    released = threading.Event()
    host.before = lambda: released.wait(60)
    try:
        job = lab.job(clone_of(pushed, host), "true")
        (handle,) = lab.engine.submit([job])
        running(lab.engine, job.key)
        while not host.asked:
            released.wait(0.05)
        lab.engine.cancel([handle], grace=30)
        event = end_of(lab.engine, job.key)
    finally:
        released.set()
    assert event.reason is Reason.CANCELLED
    outcome = jobs.read_outcome(job.attempt_dir / "output")
    assert outcome is not None
    assert (outcome.phase, outcome.state.value) == ("source", "cancelled")


SSH = """#!/bin/sh
# In the place of ssh: takes the key as ssh would, and runs the host's part of git here.
while [ $# -gt 0 ]; do
    case $1 in
    -i) key=$2; shift 2 ;;
    -o) case $2 in UserKnownHostsFile=*) ;; *) printf 'option %s\\n' "$2" >&2 ;; esac; shift 2 ;;
    *) break ;;
    esac
done
[ "$(stat -c %a "$key")" = 600 ] && [ "$(tail -n 1 "$key")" = end-of-key ] || exit 255
printf 'to %s\\n' "$1" >&2
shift
exec sh -c "git ${1#git-}"
"""


def test_a_key_over_ssh(lab: Lab, pushed: Path, tmp_path: Path) -> None:
    """ssh is given the key as a file of its own, asks nobody, and the key is gone before the step begins."""
    program = tmp_path / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    head = git(pushed, "rev-parse", "HEAD")
    clone = jobs.Clone("git@example.org:/srv/repo.git", head, "refs/heads/main", ssh_key="TOKEN")
    job = lab.job(
        replace(clone, dropped=("TOKEN",)), "cat a.txt; ls /dev/shm", secrets=TOKEN + "\nend-of-key"
    )
    mounts = (
        Mount(HostPath(program), "/usr/bin/ssh"),
        Mount(HostPath(tmp_path / "host" / "repo.git"), "/srv/repo.git"),
    )
    job = replace(job, mounts=job.mounts + mounts)
    event, said = lab.run(job)
    assert event.exit_code == 0, said
    lines = said.splitlines()
    assert "new" in lines
    assert "to git@example.org" in lines
    for option in ("BatchMode=yes", "StrictHostKeyChecking=accept-new", "IdentitiesOnly=yes"):
        assert f"option {option}" in lines
    assert not [line for line in lines if "dispatch-clone-key" in line]
    assert traces(job, event.engine_id, TOKEN) == []
    assert not (job.attempt_dir / "secrets" / "TOKEN").exists()
