"""Results on Beaker: pointers to what jobs left, archives, copies on this machine; opening a workspace."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from dispatch._beaker import BeakerError, parcels
from dispatch.beakerd.config import Config
from dispatch.errors import ConfigurationError, StepStateError, WorkspaceError
from dispatch.info import StepState
from dispatch.location import BeakerDataset, HostPath
from dispatch.params import Params
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_crash import Crashing
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_workspace import DONE, FAILED, Add, complete, fill, record
from dispatch.workspace.base import StepCache, Workspace
from dispatch.workspace.beaker import BeakerStepCache, BeakerWorkspace
from dispatch.workspace.beaker.names import STEP


@pytest.fixture(scope="module")
def workspaces(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeakerWorkspaces]:
    """One server for all tests."""
    root = tmp_path_factory.mktemp("results")
    beakers = Beakers(root, tls=authority / "tls")
    beakers.prepare()
    yield BeakerWorkspaces(beakers.start(Config()), root)
    beakers.close()


@pytest.fixture
def pair(workspaces: BeakerWorkspaces) -> Iterator[tuple[BeakerWorkspace, BeakerWorkspace]]:
    """Two machines in an empty workspace."""
    name = workspaces.new()
    one, two = (workspaces.client(name, cache=f"{name}/{n}") for n in range(2))
    yield one, two
    for each in (one, two):
        each.close()


def left_by_job(workspace: BeakerWorkspace, files: dict[str, bytes], *, commit: bool = True) -> str:
    """Do what a job on Beaker does: leave a dataset with files."""
    datasets = workspace.site.door.datasets
    made = datasets.create("")
    for path, data in files.items():
        datasets.write(made, path, data)
    if commit:
        datasets.commit(made.dataset.id)
    return made.dataset.id


def test_a_pointer(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """A job's result stays where it is; the step's dataset says where, and what it consists of."""
    one, two = pair
    dataset = left_by_job(one, {"result/data.json": b"[1, 2]\n", "outcome.json": b"{}", "work/x": b"x"})
    attempt = one.claim(record(), "run")
    where = BeakerDataset(dataset, "result")
    assert one.commit(attempt, record(), DONE, output=where).state is StepState.COMPLETED
    (own,) = one.site.door.datasets.search(STEP)
    assert sorted(each.path for each in one.site.door.datasets.files(own.id)) == [
        "manifest.json",
        "record.json",
    ]
    assert two.locate("Made-one") == where
    assert two.completed(["Made-one"]) == {"Made-one"}
    assert two.step_cache[record()] == [1, 2]
    two.verify("Made-one", deep=False)
    two.verify("Made-one", deep=True)
    assert not attempt.result.exists()


def test_a_packed_pointer(pair: tuple[BeakerWorkspace, BeakerWorkspace], tmp_path: Path) -> None:
    """An archive that a job left is unpacked where it is asked for."""
    one, two = pair
    for n in range(40):
        (tmp_path / f"{n}.txt").write_text(str(n))
    made = one.site.door.datasets.create("")
    parcel = parcels.upload(one.site.door, made, tmp_path, "result")
    assert parcel.packed
    one.site.door.datasets.commit(made.dataset.id)
    where = BeakerDataset(made.dataset.id, parcel.subpath, packed=True)
    one.commit(one.claim(record(), "run"), record(), DONE, output=where)
    assert two.locate("Made-one") == where
    two.verify("Made-one", deep=False)
    two.verify("Made-one", deep=True)
    two.bring("Made-one")
    copy = two.copy_of("Made-one")
    assert copy is not None
    assert sorted(int(path.read_text()) for path in copy.iterdir()) == list(range(40))


def test_a_pointer_to_nothing(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """What is not there, or not finished, is no result; the attempt can be failed then."""
    one, _ = pair
    attempt = one.claim(record(), "run")
    empty = left_by_job(one, {"work/x": b"x"})
    open_one = left_by_job(one, {"result/data.json": b"1"}, commit=False)
    for where, error in (
        (BeakerDataset(empty, "result"), StepStateError),
        (BeakerDataset(empty, "result.tar", packed=True), StepStateError),
        (BeakerDataset("01H0000000000000000000NONE", "result"), StepStateError),
        (BeakerDataset(open_one, "result"), BeakerError),
    ):
        with pytest.raises(error):
            one.commit(attempt, record(), DONE, output=where)
    assert one.completed(["Made-one"]) == set()
    info = one.fail(attempt, record(), FAILED, output=BeakerDataset(empty, "work"))
    assert info.state is StepState.FAILED


def test_a_pointer_whose_target_is_deleted(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """It is no result any more, for whoever looks, and the step can be run again."""
    one, two = pair
    dataset = left_by_job(one, {"result/data.json": b"1"})
    where = BeakerDataset(dataset, "result")
    one.commit(one.claim(record(), "run"), record(), DONE, output=where)
    one.site.door.datasets.delete([dataset])
    assert two.completed(["Made-one"]) == set()
    assert two.locate("Made-one") is None
    assert two.step_info("Made-one").state is StepState.INCOMPLETE
    assert two.orphan("Made-one") is None
    assert complete(two, record()).number == 2
    assert two.step_cache[record()] == "value"


def test_a_directory_with_everything(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """Links, empty files, empty directories and modes come through."""
    one, two = pair
    attempt = one.claim(record(), "run")
    fill(attempt)
    (attempt.result / "empty").mkdir()
    (attempt.result / "none.txt").touch()
    (attempt.result / "run.sh").write_text("#!/bin/sh\n")
    (attempt.result / "run.sh").chmod(0o755)
    (attempt.result / "link").symlink_to("run.sh")
    one.commit(attempt, record(), DONE)
    for client in (one, two):
        client.bring("Made-one")
        copy = client.copy_of("Made-one")
        assert copy is not None
        assert (copy / "empty").is_dir()
        assert (copy / "none.txt").read_bytes() == b""
        assert (copy / "run.sh").stat().st_mode & 0o111
        assert (copy / "link").readlink() == Path("run.sh")
        assert client.step_cache[record()] == "value"
        client.verify("Made-one", deep=True)


def test_what_was_made_here_is_here(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """A result that this machine uploaded is not fetched again; one read before costs one question."""
    one, two = pair
    complete(one, record())
    client = _again(one)
    counting = Crashing(client.site.door)
    assert client.step_cache[record()] == "value"
    before = counting.made
    assert client.step_cache[record()] == "value"
    assert counting.made == before + 1
    assert two.step_cache[record()] == "value"


def _again(workspace: BeakerWorkspace) -> BeakerWorkspace:
    copy: BeakerWorkspace = pickle.loads(pickle.dumps(workspace))
    return copy


def test_bringing_from_several_threads(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """It is fetched once, and asking where it will be asks nobody."""
    one, two = pair
    complete(one, record(), text=f'"{"x" * 100_000}"\n')
    assert two.locate("Made-one") is not None
    counting = Crashing(_fresh(two))
    place = two.copy_of("Made-one")
    assert counting.made == 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(two.bring, ["Made-one"] * 8))
    assert place is not None
    assert (place / "data.json").stat().st_size == 100_003
    with pytest.raises(KeyError):
        two.bring("Made-none")


def _fresh(workspace: BeakerWorkspace) -> Any:
    """Return a workspace's door, whose calls can still be counted."""
    workspace.site.door.__dict__.pop("datasets", None)
    return workspace.site.door


def test_many_are_asked_for_together(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """Of fifty cached steps each costs two requests at most the first time, and hardly one afterwards."""
    one, two = pair
    for n in range(50):
        complete(one, record(f"s{n}"))
    unique_ids = [f"Made-s{n}" for n in range(50)]
    counting = Crashing(two.site.door)
    assert two.completed(unique_ids) == set(unique_ids)
    assert counting.made <= 2 * 50
    again = _again(two)
    counting = Crashing(again.site.door)
    assert again.completed(unique_ids) == set(unique_ids)
    assert counting.made <= 8
    again.close()


def test_a_workspace_with_much_in_it(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """Where the list of the youngest does not hold all, each step is asked for."""
    one, two = pair
    complete(one, record("old"))
    for n in range(110):
        one.site.door.datasets.create(f"{STEP}Other-{n}.w0000000.1")
    names = ["Made-old", *(f"Made-none{n}" for n in range(6))]
    assert two.completed(names) == {"Made-old"}


# Opening


def test_opening_from_config(workspaces: BeakerWorkspaces, tmp_path: Path) -> None:
    """Config may hold the workspace by either of its names, and any option of the client's."""
    name = workspaces.new()
    options = cast("dict[str, Any]", options_of(workspaces.beaker))
    for spelling in ("beaker_workspace", "workspace"):
        config = {"type": "beaker", spelling: name, "cache": tmp_path, **options}
        made = Workspace.from_params(Params(config))
        assert isinstance(made, BeakerWorkspace)
        assert made.url == f"beaker://{name}"
        assert made.num_registered_runs() == 0
        made.close()
    with pytest.raises(ConfigurationError, match="speed"):
        Workspace.from_params(Params({**config, "speed": 3})).num_steps()


@pytest.mark.parametrize(
    "url", ["beaker://", "beaker:///", "beaker://a/b/c", "beaker://a/b?x=1", "beaker://a#b"]
)
def test_bad_urls(url: str) -> None:
    """What is no name of a workspace is refused."""
    with pytest.raises(ConfigurationError, match="URL"):
        Workspace.from_url(url)


def test_the_id_of_a_workspace(workspaces: BeakerWorkspaces, tmp_path: Path) -> None:
    """A workspace may be opened by its id; its URL has its name."""
    name = workspaces.new()
    with workspaces.beaker.client() as client:
        wanted = client.workspace.get(name).id
    options = cast("dict[str, Any]", options_of(workspaces.beaker))
    by_id = BeakerWorkspace(wanted, cache=tmp_path, **options)
    assert by_id.url == f"beaker://{name}"
    complete(by_id, record())
    by_id.close()


def test_a_cache_of_its_own(workspaces: BeakerWorkspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step cache is opened by a workspace's name and a client of beaker-py's."""
    name = workspaces.new()
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspaces.root / "xdg"))
    with workspaces.beaker.client() as client:
        cache = BeakerStepCache(name, client)
    assert StepCache.by_name("beaker") is BeakerStepCache
    step = Add(a=1)
    cache[step] = [1, 2]
    assert (step in cache, len(cache), cache[step]) == (True, 1, [1, 2])
    assert workspaces.client(name).step_cache[step] == [1, 2]
    del cache[step]
    assert step not in cache


def test_work_is_kept_on_this_machine(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """What a step keeps between attempts is a directory of this machine's."""
    one, two = pair
    place = one.work_location(record())
    assert isinstance(place, HostPath)
    assert place.path != two.work_location(record()).path


def test_a_full_or_forbidden_disk(pair: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """Where copies cannot be kept reading says so, and asking goes on."""
    one, two = pair
    complete(one, record())
    two.site.cache.parent.mkdir(parents=True, exist_ok=True)
    two.site.cache.write_text("a file where the directory should be")
    assert two.completed(["Made-one"]) == {"Made-one"}
    with pytest.raises(WorkspaceError, match="copied here"):
        two.step_cache[record()]
