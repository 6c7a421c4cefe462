"""What a LocalWorkspace keeps on disk, and that no crash, race or move spoils it."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.errors import FormatError, WorkspaceError
from dispatch.info import AttemptFacts, StepState
from dispatch.testing.contracts_workspace import DONE, FAILED, Add, fill, record
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt, StepHeldError, StepSupersededError, Workspace
from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Holder, Host
from dispatch.workspace.manifest import Manifest
from dispatch.workspaces import LocalWorkspace


class Process(Host):
    """A process of our making on a machine of our making; ``others`` are those that live."""

    def __init__(self, pid: int, others: tuple[int, ...] = ()) -> None:
        self.pid = pid
        self.living = {pid, *others}

    def me(self, run: str) -> Holder:
        """Be this process."""
        return Holder("here", "machine", "boot", "pid:[1]", self.pid, str(self.pid), run)

    def start_of(self, pid: int) -> str | None:
        """Processes begin at the tick of their number."""
        return str(pid) if pid in self.living else None


def as_process(directory: Path, pid: int, *others: int, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it."""
    return LocalWorkspace(directory, ports=Ports(disk=disk or Disk(), host=Process(pid, others)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the workspace is going to be."""
    return tmp_path / "ws"


def complete(workspace: Workspace, name: str = "one") -> Attempt:
    """Run a step as the dispatcher does."""
    attempt = workspace.claim(record(name), "run")
    fill(attempt)
    workspace.commit(attempt, record(name), DONE)
    return attempt


def test_nothing_is_made_by_looking(root: Path) -> None:
    """A workspace that was only asked leaves no directory behind."""
    workspace = LocalWorkspace(root)
    assert workspace.registered_runs() == {}
    assert workspace.completed(["Made-one"]) == set()
    assert workspace.locate("Made-one") is None
    assert len(workspace.step_cache) == 0
    assert not root.exists()


def test_layout(root: Path) -> None:
    """Results, runs and links lie where the documentation says, and no link is absolute."""
    workspace = LocalWorkspace(root)
    workspace.register_run([record()], "first", jobs=[record("dep")])
    complete(workspace)
    assert json.loads((root / "settings.json").read_text()) == {"layout": 1}
    assert (root / ".gitignore").read_text() == "*\n"
    links = {
        str(path.relative_to(root)): str(path.readlink()) for path in root.rglob("*") if path.is_symlink()
    }
    assert links == {
        "latest": "runs/first",
        "runs/first/one": "../../cache/Made-one",
        "runs/first/dep": "../../cache/Made-dep",
    }
    assert (root / "latest" / "one" / "result" / "data.json").read_text() == '"value"\n'
    assert not (root / "latest" / "dep").exists()
    assert sorted(path.name for path in (root / "cache" / "Made-one").iterdir()) == [
        "manifest.json",
        "result",
    ]


def test_manifest_tells_everything(root: Path) -> None:
    """With nothing but the cache left, a step's record, facts and result are still known."""
    workspace = LocalWorkspace(root)
    before = workspace.step_info(record())
    complete(workspace)
    for name in ("runs", "steps", "leases", "attempts", "work"):
        shutil.rmtree(root / name)
    info = LocalWorkspace(root).step_info("Made-one")
    assert (info.record, info.attempt, info.state) == (before.record, DONE, StepState.COMPLETED)
    manifest = Manifest.read(root / "cache" / "Made-one" / "manifest.json")
    assert manifest is not None
    assert manifest.content.files["data.json"][0] == 8


def test_workspace_can_be_moved(root: Path, tmp_path: Path) -> None:
    """A workspace works in another place, runs and links included."""
    workspace = LocalWorkspace(root)
    workspace.register_run([record()], "first")
    complete(workspace)
    root.rename(tmp_path / "elsewhere")
    moved = LocalWorkspace(tmp_path / "elsewhere")
    assert moved.step_result_for_run("first", "one") == "value"
    assert (tmp_path / "elsewhere" / "latest" / "one" / "result" / "data.json").exists()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file())
    assert os.fsencode(tmp_path) not in stored


def test_latest_follows(root: Path) -> None:
    """The link ``latest`` leads to the run that was registered last."""
    workspace = LocalWorkspace(root)
    for name in ("first", "second"):
        workspace.register_run([], name)
        assert str((root / "latest").readlink()) == f"runs/{name}"
    (root / "latest").unlink()
    assert workspace.latest_run() == "second"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"layout": 2}', "layout 2"),
        ('{"version": 2}', "not a workspace"),
        ("[1]", "not a workspace"),
        ("", "not a workspace"),
    ],
)
def test_foreign_layouts_are_refused(root: Path, content: str, message: str) -> None:
    """A directory of a newer version, or of another program, is neither read nor written."""
    root.mkdir()
    (root / "settings.json").write_text(content)
    workspace = LocalWorkspace(root)
    uses: list[Callable[[], object]] = [
        lambda: workspace.register_run([]),
        lambda: workspace.claim(record(), "run"),
        workspace.registered_runs,
        lambda: workspace.step_info(record()),
        lambda: workspace.completed([]),
    ]
    for use in uses:
        with pytest.raises(WorkspaceError, match=message) as caught:
            use()
        assert caught.value.remedy
    assert [path.name for path in root.iterdir()] == ["settings.json"]


def test_a_directory_in_use_is_not_taken(root: Path) -> None:
    """A directory with other files in it does not become a workspace: its .gitignore would hide them."""
    root.mkdir()
    (root / "thesis.tex").write_text("")
    with pytest.raises(WorkspaceError, match=r"thesis\.tex"):
        LocalWorkspace(root).register_run([])
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


def test_later_attempt_supersedes(root: Path) -> None:
    """Once its holder is taken for gone and the step claimed anew, the old attempt commits nothing."""
    old = as_process(root, 1)
    attempt = old.claim(record(), "run")
    fill(attempt)
    second = as_process(root, 2).claim(record(), "run")
    with pytest.raises(StepSupersededError):
        old.commit(attempt, record(), DONE)
    assert second.number == 2
    assert old.step_info("Made-one").state is StepState.INCOMPLETE
    assert as_process(root, 3, 2).step_info("Made-one").state is StepState.RUNNING


def test_superseded_attempt_finds_the_first_result(root: Path) -> None:
    """A superseded attempt that ends after its successor learns of the successor's result."""
    old = as_process(root, 1)
    attempt = old.claim(record(), "run")
    fill(attempt, '"old"\n')
    complete(as_process(root, 2))
    assert old.commit(attempt, record(), DONE).state is StepState.COMPLETED
    assert old.step_cache[record()] == "value"


def test_one_of_many_claims(root: Path) -> None:
    """Of many that claim a step at once exactly one gets it."""
    LocalWorkspace(root).register_run([])
    got: list[Attempt] = []
    refused: list[StepHeldError] = []
    start = threading.Barrier(8)

    def claim(pid: int) -> None:
        workspace = as_process(root, pid, *range(1, 9))
        start.wait()
        try:
            got.append(workspace.claim(record(), "run"))
        except StepHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=claim, args=(pid,)) for pid in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_one_of_many_runs(root: Path) -> None:
    """Of many that register a name at once exactly one gets it, and no half-made run is left."""
    done: list[str] = []
    start = threading.Barrier(8)

    def register(number: int) -> None:
        workspace = LocalWorkspace(root)
        start.wait()
        try:
            workspace.register_run([record(str(number))], "first")
            done.append("registered")
        except ValueError:
            done.append("taken")

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["registered"] + ["taken"] * 7
    assert [path.name for path in (root / "runs").iterdir()] == ["first"]


@pytest.mark.parametrize("damage", ["manifest gone", "all gone", "empty directory", "a file"])
def test_damaged_results_are_computed_again(root: Path, damage: str) -> None:
    """Whatever somebody removed of a result, the step is claimed and committed again without any help."""
    workspace = LocalWorkspace(root)
    complete(workspace)
    directory = root / "cache" / "Made-one"
    if damage == "manifest gone":
        (directory / "manifest.json").unlink()
    else:
        shutil.rmtree(directory)
    if damage == "empty directory":
        directory.mkdir()
    if damage == "a file":
        directory.write_text("")
    assert workspace.step_info("Made-one").state is StepState.INCOMPLETE
    assert complete(workspace).number == 2
    assert workspace.step_cache[record()] == "value"


def test_unreadable_manifest_says_what_to_do(root: Path) -> None:
    """A manifest that was overwritten with something else is an error with a remedy that works."""
    workspace = LocalWorkspace(root)
    complete(workspace)
    (root / "cache" / "Made-one" / "manifest.json").write_text("{")
    with pytest.raises(WorkspaceError, match="damaged") as caught:
        workspace.step_info("Made-one")
    assert str(root / "cache" / "Made-one") in caught.value.remedy


def test_pickles_of_others_are_not_loaded(root: Path) -> None:
    """A pickled result is loaded by the account that wrote it, by others only where that is trusted."""
    step = Add(a=1, step_format="pickle")
    LocalWorkspace(root).step_cache[step] = {1, 2}
    stranger = Ports(uid=lambda: os.getuid() + 1)
    assert LocalWorkspace(root).step_cache[step] == {1, 2}
    assert LocalWorkspace(root, trusted=True, ports=stranger).step_cache[step] == {1, 2}
    with pytest.raises(FormatError, match="another account") as caught:
        LocalWorkspace(root, ports=stranger).step_cache[step]
    assert "trusted_workspaces" in caught.value.remedy


def test_plain_data_of_others_is_read(root: Path) -> None:
    """Results that are data, not code, are read whoever wrote them."""
    step = Add(a=1)
    LocalWorkspace(root).step_cache[step] = [1, 2]
    assert LocalWorkspace(root, ports=Ports(uid=lambda: os.getuid() + 1)).step_cache[step] == [1, 2]


def test_a_commands_result_is_its_path(root: Path) -> None:
    """The result of a step that left only files of its own is their directory."""
    workspace = LocalWorkspace(root)
    attempt = workspace.claim(record(), "run")
    attempt.result.mkdir()
    (attempt.result / "sizes.txt").write_text("1")
    workspace.commit(attempt, record(), DONE)
    assert workspace.step_cache[record()] == root / "cache" / "Made-one" / "result"


def test_failed_commit_is_not_a_result(root: Path) -> None:
    """If the disk fails during a commit, the step fails, and nothing of it is taken for a result."""
    workspace = as_process(root, 1)
    attempt = workspace.claim(record(), "run")
    fill(attempt)
    broken = as_process(root, 1, disk=CrashingDisk(2, OSError("disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        broken.commit(attempt, record(), DONE)
    assert workspace.fail(attempt, record(), FAILED).state is StepState.FAILED
    assert workspace.locate("Made-one") is None


def test_logs_are_captured(root: Path) -> None:
    """Log records of a run go to its log, and stop doing so afterwards."""
    workspace = LocalWorkspace(root)
    workspace.register_run([], "first")
    logger = logging.getLogger("some.step")
    with workspace.capture_logs_for_run("first"):
        logger.warning("inside")
    logger.warning("outside")
    text = (root / "runs" / "first" / ".out.log").read_text()
    assert "inside" in text
    assert "outside" not in text


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("local:///data/ws", "/data/ws"),
        ("/data/ws", "/data/ws"),
        ("/data/a#b?c", "/data/a#b?c"),
        ("local:///data/a%23b", "/data/a#b"),
        ("local:///data/../ws/", "/ws"),
    ],
)
def test_urls(url: str, path: str) -> None:
    """URLs and plain paths lead to the directory they say; its own URL is absolute and quoted."""
    workspace = Workspace.from_url(url)
    assert isinstance(workspace, LocalWorkspace)
    assert workspace.dir == Path(path)
    assert Workspace.from_url(workspace.url).url == workspace.url


class Crash(BaseException):
    """The process is gone."""


class CrashingDisk(Disk):
    """A disk that is cut off after so many changes."""

    def __init__(self, left: int, error: BaseException | None = None) -> None:
        self.left = left
        self.error = error or Crash()

    def __getattribute__(self, name: str) -> object:
        """Count the public methods, and stop before the one that is too many."""
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def change(*arguments: object, **options: object) -> object:
            if self.left == 0:
                raise self.error
            self.left -= 1
            return found(*arguments, **options)

        return change


def whole_story(workspace: LocalWorkspace) -> None:
    """Register a run, fail a step once, complete it, and end the run."""
    run = workspace.register_run([record()])
    attempt = workspace.claim(record(), run.name)
    workspace.fail(attempt, record(), FAILED)
    complete(workspace)
    workspace.finish_run(run.name, "completed")


def test_any_crash_is_survived_by_running_again(tmp_path: Path) -> None:
    """After a crash between any two changes a plain re-run in a new process ends with the one result."""
    for changes in range(1000):
        root = tmp_path / str(changes)
        disk = CrashingDisk(changes)
        crashed = False
        try:
            whole_story(as_process(root, 1, disk=disk))
        except Crash:
            crashed = True
        again = as_process(root, 2)
        if again.completed(["Made-one"]):
            assert again.step_info("Made-one").attempt == DONE
        else:
            complete(again)
        again.register_run([record()], "again")
        assert again.step_result_for_run("again", "one") == "value"
        assert all(run.steps["one"].state is StepState.COMPLETED for run in again.registered_runs().values())
        if not crashed:
            break
    assert not crashed
    assert changes > 25


def test_any_crash_of_a_commit_is_survived_by_committing_again(tmp_path: Path) -> None:
    """An attempt whose commit was cut short can be adopted and committed by another process."""
    for changes in range(100):
        root = tmp_path / str(changes)
        attempt = as_process(root, 1).claim(record(), "run")
        fill(attempt)
        crashed = False
        try:
            as_process(root, 1, disk=CrashingDisk(changes)).commit(attempt, record(), DONE)
        except Crash:
            crashed = True
        info = as_process(root, 2).commit(attempt, record(), DONE)
        assert (info.state, info.attempt) == (StepState.COMPLETED, DONE)
        assert as_process(root, 2).step_cache[record()] == "value"
        if not crashed:
            break
    assert not crashed


def test_power_cut_that_took_a_lease(root: Path) -> None:
    """Where a power cut kept an attempt but lost its lease, the number is passed over."""
    workspace = LocalWorkspace(root)
    attempt = workspace.claim(record(), "run")
    workspace.fail(attempt, record(), FAILED)
    (root / "leases" / "Made-one.1").unlink()
    assert LocalWorkspace(root).claim(record(), "run").number == 2


def test_facts_of_the_latest_attempt(root: Path) -> None:
    """While a second attempt runs the step is running, with the time it was claimed at."""
    workspace = LocalWorkspace(root)
    workspace.fail(workspace.claim(record(), "run"), record(), FAILED)
    workspace.claim(record(), "run")
    info = workspace.step_info("Made-one")
    assert info.state is StepState.RUNNING
    assert info.attempt is not None
    assert info.attempt == AttemptFacts(
        StepState.RUNNING,
        started=info.start_time,
        platform={"host": os.uname().nodename},
        environment={"pid": os.getpid(), "run": "run"},
    )


def test_latest_name_of_a_step_wins(root: Path) -> None:
    """A step that comes again under another name is known by the new one."""
    workspace = LocalWorkspace(root)
    workspace.register_run([record()])
    workspace.register_run([replace(record(), name="renamed")])
    assert workspace.step_info("Made-one").step_name == "renamed"


def damage_manifest(directory: Path) -> None:
    """Overwrite the manifest."""
    (directory / "manifest.json").write_text("{")


def lose_manifest(directory: Path) -> None:
    """Remove the manifest."""
    (directory / "manifest.json").unlink()


def lose_result(directory: Path) -> None:
    """Remove the files of the result."""
    shutil.rmtree(directory / "result")


def become_a_file(directory: Path) -> None:
    """Put a file in the place of the directory."""
    shutil.rmtree(directory)
    directory.write_text("")


def become_a_broken_link(directory: Path) -> None:
    """Put a link that leads nowhere in the place of the directory."""
    shutil.rmtree(directory)
    directory.symlink_to("nowhere")


def lose_everything(directory: Path) -> None:
    """Remove the directory."""
    shutil.rmtree(directory)


def damage_record(directory: Path) -> None:
    """Overwrite the step's record."""
    (directory.parents[1] / "steps" / "Made-one.json").write_text("[")


def lose_record(directory: Path) -> None:
    """Remove the step's record."""
    (directory.parents[1] / "steps" / "Made-one.json").unlink()


def lose_attempt(directory: Path) -> None:
    """Remove what the attempt left."""
    shutil.rmtree(directory.parents[1] / "attempts" / "Made-one.1")


@pytest.mark.parametrize(
    "damage",
    [
        *(damage_manifest, lose_manifest, lose_result, become_a_file, become_a_broken_link, lose_everything),
        *(damage_record, lose_record, lose_attempt),
    ],
)
def test_removing_heals(root: Path, damage: Callable[[Path], None]) -> None:
    """Whatever was done to a step's files, it can be removed, is unknown then, and can be computed again."""
    complete(as_process(root, 1))
    workspace = as_process(root, 2)
    workspace.register_run([record()], "first")
    damage(root / "cache" / "Made-one")
    workspace.remove_step("Made-one")
    with pytest.raises(KeyError):
        workspace.step_info("Made-one")
    for folder in ("cache", "steps", "work"):
        assert list((root / folder).iterdir()) == []
    assert complete(workspace).number > 1
    assert workspace.step_cache[record()] == "value"
    assert workspace.registered_run("first").steps["one"].state is StepState.COMPLETED


def test_any_crash_of_a_removal_is_survived_by_removing_again(root: Path, tmp_path: Path) -> None:
    """A removal that was cut short can be finished by another process, and harms nothing before."""
    for changes in range(100):
        root = tmp_path / str(changes)
        complete(as_process(root, 1))
        crashed = False
        try:
            as_process(root, 1, disk=CrashingDisk(changes)).remove_step("Made-one")
        except Crash:
            crashed = True
        again = as_process(root, 2)
        try:
            again.remove_step("Made-one")
        except KeyError:
            with pytest.raises(KeyError):
                again.step_info("Made-one")
        assert (again.locate("Made-one"), again.num_steps()) == (None, 0)
        complete(again)
        assert again.step_cache[record()] == "value"
        if not crashed:
            break
    assert not crashed
    assert changes > 5


def test_any_crash_of_the_removal_of_a_run_is_survived(tmp_path: Path) -> None:
    """A run is there or gone, never in between, and the latest run is one that is there."""
    for changes in range(20):
        root = tmp_path / str(changes)
        first = LocalWorkspace(root)
        for name in ("first", "second"):
            first.register_run([record()], name)
        crashed = False
        try:
            as_process(root, 1, disk=CrashingDisk(changes)).remove_run("second")
        except Crash:
            crashed = True
        again = LocalWorkspace(root)
        assert list(again.registered_runs()) in (["first", "second"], ["first"])
        assert again.latest_run() == list(again.registered_runs())[-1]
        again.register_run([record()], "third")
        if not crashed:
            break
    assert not crashed
    assert str((root / "latest").readlink()) == "runs/third"


def test_latest_follows_a_removal(root: Path) -> None:
    """When the latest run is removed the link leads to the youngest of the rest, and goes with the last."""
    workspace = LocalWorkspace(root)
    for name in ("first", "second", "third"):
        workspace.register_run([], name)
    workspace.remove_run("third")
    assert str((root / "latest").readlink()) == "runs/second"
    workspace.remove_run("first")
    assert str((root / "latest").readlink()) == "runs/second"
    workspace.remove_run("second")
    assert not os.path.lexists(root / "latest")


def test_lists_read_no_more_than_they_show(root: Path) -> None:
    """Counting runs reads none, sorting them reads their beginning, and only what is shown is parsed."""
    workspace = LocalWorkspace(root)
    for name in ("a", "b", "c"):
        workspace.register_run([record()], name, facts={"note": "x" * 1000})
    for name in ("a", "b"):
        path = root / "runs" / name / ".run.json"
        path.write_bytes(path.read_bytes()[:600])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert workspace.num_registered_runs() == 3
        assert workspace.num_registered_runs(match="a") == 1
        assert [run.name for run in workspace.search_registered_runs(stop=1)] == ["c"]
        assert workspace.latest_run() == "c"
        (root / "latest").unlink()
        assert workspace.latest_run() == "c"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"run": 1, "start_date": "2024-13-01T00:00:00+00:00"}']
)
def test_a_damaged_run_hides_no_other(root: Path, content: bytes) -> None:
    """A run whose record is damaged is left out of lists with a warning, is an error by name, and can go."""
    workspace = LocalWorkspace(root)
    for name in ("a", "b"):
        workspace.register_run([record()], name)
    (root / "runs" / "a" / ".run.json").write_bytes(content)
    with pytest.warns(UserWarning, match="run left out of the list.*is damaged.*dispatch repair"):
        assert list(workspace.registered_runs()) == ["b"]
    with pytest.warns(UserWarning, match="is damaged"):
        assert [run.name for run in workspace.search_registered_runs()] == ["b"]
    with pytest.raises(WorkspaceError, match="is damaged"):
        workspace.registered_run("a")
    with pytest.warns(UserWarning, match="is damaged"):
        workspace.remove_run("a")
    assert (list(workspace.registered_runs()), workspace.num_registered_runs()) == (["b"], 1)


def test_a_damaged_step_hides_no_other(root: Path) -> None:
    """A step whose manifest is damaged is left out of lists with a warning."""
    workspace = LocalWorkspace(root)
    for name in ("one", "two"):
        complete(workspace, name)
    (root / "cache" / "Made-one" / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match="left out of the list.*Made-one"):
        assert [info.unique_id for info in workspace.search_step_info()] == ["Made-two"]


def test_a_lost_record_is_taken_from_the_result(root: Path) -> None:
    """A step with a result is known by it where its own record is damaged or gone."""
    workspace = LocalWorkspace(root)
    complete(workspace)
    known = workspace.step_info("Made-one")
    path = root / "steps" / "Made-one.json"
    path.write_text("[")
    assert workspace.step_info("Made-one") == known
    path.unlink()
    assert workspace.step_info("Made-one") == known
    assert (workspace.num_steps(), workspace.search_step_info()) == (1, [known])


def test_files_that_are_no_steps_and_runs(root: Path) -> None:
    """What others put into the directories is neither a step nor a run."""
    workspace = LocalWorkspace(root)
    workspace.register_run([record()], "first")
    for name in (".hidden", "no run", "empty", "-x"):
        (root / "runs" / name).mkdir()
    (root / "runs" / "file").write_text("")
    for name in (".x.json", "a b.json", "note.txt", ".json"):
        (root / "steps" / name).write_text("")
    for name in (".hidden", "a b", "empty"):
        (root / "cache" / name).mkdir()
    (root / "cache" / "file").write_text("")
    assert (workspace.num_registered_runs(), workspace.num_steps()) == (1, 1)
    assert list(workspace.registered_runs()) == ["first"]
    assert [info.unique_id for info in workspace.search_step_info()] == ["Made-one"]
    assert len(workspace.step_cache) == 0


def test_a_copy_through_pickle_holds_nothing(root: Path) -> None:
    """What was claimed before pickling is renewed by the first alone, and held against the copy."""
    workspace = LocalWorkspace(root, trusted=True)
    attempt = workspace.claim(record(), "run")
    copy = pickle.loads(pickle.dumps(workspace))
    assert (copy.dir, copy.url) == (workspace.dir, workspace.url)
    with pytest.raises(StepHeldError):
        copy.claim(record(), "run")
    fill(attempt)
    assert workspace.commit(attempt, record(), DONE).state is StepState.COMPLETED
    assert copy.step_cache[record()] == "value"


def test_a_run_file_cannot_lead_outside(root: Path) -> None:
    """Ids in a run's record that are no ids are steps of which nothing is known."""
    workspace = LocalWorkspace(root)
    workspace.register_run([record()], "first")
    path = root / "runs" / "first" / ".run.json"
    path.write_bytes(path.read_bytes().replace(b"Made-one", b"../../x"))
    assert workspace.registered_run("first").steps["one"].state is StepState.INCOMPLETE
    with pytest.raises(KeyError):
        workspace.step_result_for_run("first", "one")


def test_a_moved_away_file_is_not_in_the_work_directory(root: Path) -> None:
    """A file that became the result is not there twice."""
    workspace, step = LocalWorkspace(root), Add(a=1)
    workspace.step_starting(step)
    path = workspace.work_dir(step) / "model.bin"
    path.write_bytes(b"weights")
    found = workspace.step_finished(step, path)
    assert found.is_relative_to(root / "cache" / step.unique_id / "result")
    assert not path.exists()


def test_differences_are_kept_with_their_run(tmp_path: Path) -> None:
    """One for each tree, the first of it; they go with the run, and harm no list and no check of runs."""
    workspace = LocalWorkspace(tmp_path)
    workspace.register_run([record()], "first")
    workspace.keep_difference("first", "a" * 40, b"one\n")
    workspace.keep_difference("first", "a" * 40, b"later\n")
    workspace.keep_difference("first", "b" * 40, b"two\n")
    assert [path.read_bytes() for path in workspace.differences("first")] == [b"one\n", b"two\n"]
    assert list(LocalWorkspace(tmp_path).registered_runs()) == ["first"]
    assert workspace.differences("first")[0].parent == tmp_path / "runs" / "first"
    workspace.remove_run("first")
    for call in (workspace.differences, lambda name: workspace.keep_difference(name, "a" * 40, b"")):
        with pytest.raises(KeyError):
            call("first")
