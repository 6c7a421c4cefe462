"""Several clients and users in one workspace on Beaker: races, teammates' results, strangers' datasets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.errors import FormatError, StepStateError
from dispatch.info import StepState
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_crash import Crashing, Machine, Process
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_workspace import DONE, FAILED, Add, complete, fill, record
from dispatch.workspace.base import StepCompletedError, StepHeldError, StepSupersededError
from dispatch.workspace.beaker.names import SESSION, STEP
from dispatch.workspace.beaker.session import STALE_AFTER
from dispatch.workspace.beaker.site import BeakerPorts
from dispatch.workspace.beaker.taking import scope
from dispatch.workspace.beaker.workspace import BeakerWorkspace

USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


@pytest.fixture(scope="module", params=list(NameScope), ids=lambda names: names.value)
def workspaces(
    request: pytest.FixtureRequest, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BeakerWorkspaces]:
    """One server for all tests."""
    root = tmp_path_factory.mktemp("teams")
    beakers = Beakers(root, tls=authority / "tls")
    beakers.prepare()
    config = Config(users=USERS, assume=Assumptions(names=request.param))
    yield BeakerWorkspaces(beakers.start(config), root)
    beakers.close()


class Clock:
    """A monotonic clock to be moved."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


Client = Callable[..., BeakerWorkspace]


@pytest.fixture
def client(workspaces: BeakerWorkspaces) -> Iterator[Client]:
    """Opens an empty workspace as some user on some machine."""
    name = workspaces.new()
    made: list[BeakerWorkspace] = []

    def make(user: str = "me", host: Process | None = None, clock: Clock | None = None) -> BeakerWorkspace:
        ports = BeakerPorts()
        if host is not None:
            ports = replace(ports, host=host)
        if clock is not None:
            ports = replace(ports, monotonic=clock)
        cache = f"{name}/{len(made)}"
        made.append(workspaces.client(name, user, cache=cache, ports=ports))
        return made[-1]

    yield make
    for each in made:
        each.close()


STEPS = 8


def test_four_clients_of_two_users(client: Client) -> None:
    """Each step is computed once, by one of them, and all of them get that result."""
    clients = [client(user) for user in ("me", "you", "me", "you")]
    computed: list[tuple[str, int]] = []
    start = threading.Barrier(len(clients))

    def work(number: int) -> None:
        mine = clients[number]
        start.wait()
        left = [f"s{(number + step) % STEPS}" for step in range(STEPS)]
        while left:
            name = left.pop(0)
            try:
                attempt = mine.claim(record(name), f"run-{number}")
            except StepCompletedError:
                continue
            except StepHeldError:
                left.append(name)
                continue
            computed.append((name, number))
            fill(attempt, f"{number}\n")
            mine.commit(attempt, record(name), DONE)

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, range(len(clients))))
    assert sorted(name for name, _ in computed) == [f"s{n}" for n in range(STEPS)]
    for each in clients:
        assert {name: each.step_cache[record(name)] for name, _ in computed} == dict(computed)
    datasets = clients[0].site.door.datasets
    assert datasets.search(STEP, committed=False) == []
    assert len(datasets.search(STEP)) == STEPS


def test_one_step_again_and_again(client: Client) -> None:
    """Of all who claim a step at once one gets it, whoever of the two users that is."""
    clients = [client(user) for user in ("me", "you", "me", "you")]
    for round in range(6):
        start = threading.Barrier(len(clients))

        def claim(mine: BeakerWorkspace, start: threading.Barrier = start) -> Any:
            start.wait()
            try:
                return mine, mine.claim(record(), "run")
            except StepHeldError:
                return None

        with ThreadPoolExecutor(len(clients)) as pool:
            got = [each for each in pool.map(claim, clients) if each is not None]
        assert len(got) == 1
        winner, attempt = got[0]
        assert attempt.number == round + 1
        winner.fail(attempt, record(), FAILED)


def test_a_teammate_at_work(client: Client) -> None:
    """Whoever works at a step holds it against the other user, too, and is named."""
    mine, yours = client("me"), client("you")
    attempt = yours.claim(record(), "calm-heron-001")
    with pytest.raises(StepHeldError, match="calm-heron-001"):
        mine.claim(record(), "run")
    assert mine.step_info("Made-one").state is StepState.RUNNING
    with pytest.raises(StepStateError, match="works at it"):
        mine.remove_step("Made-one")
    fill(attempt)
    yours.commit(attempt, record(), DONE)
    with pytest.raises(StepCompletedError):
        mine.claim(record(), "run")
    assert mine.step_cache[record()] == "value"
    mine.remove_step("Made-one")
    assert yours.locate("Made-one") is None
    assert complete(yours, record()).number > attempt.number


def test_a_teammates_pickle(client: Client, workspaces: BeakerWorkspaces) -> None:
    """It is not loaded unless the workspace is trusted; plain data is."""
    mine, yours = client("me"), client("you")
    plain, code = Add(a=1), Add(a=2, step_format="pickle")
    yours.step_cache[plain] = [1]
    yours.step_starting(code)
    yours.step_finished(code, 2)
    assert mine.step_cache[plain] == [1]
    mine.check_trust(plain.unique_id)
    for use in (mine.check_trust, lambda _: mine.step_cache[code]):
        with pytest.raises(FormatError, match="another account"):
            use(code.unique_id)
    yours.check_trust(code.unique_id)
    assert yours.step_cache[code] == 2
    name, _, _, options = mine._made_of
    trusting = BeakerWorkspace(name, trusted=True, cache=workspaces.root / "trusting", **options)
    assert trusting.step_cache[code] == 2
    trusting.close()


def test_a_dead_teammate(client: Client) -> None:
    """What somebody left who died is taken over by the other user, and cannot come back."""
    machine = Machine()
    process = machine.process()
    yours, mine = client("you", process), client("me", machine.process())
    left = yours.claim(record(), "run")
    with pytest.raises(StepHeldError):
        mine.claim(record(), "run")
    machine.kill(process)
    attempt = mine.claim(record(), "run")
    assert attempt.number == 2
    fill(left, '"left"\n')
    with pytest.raises(StepSupersededError):
        yours.commit(left, record(), DONE)
    fill(attempt)
    mine.commit(attempt, record(), DONE)
    assert yours.step_cache[record()] == "value"


def test_a_machine_that_fell_silent(client: Client) -> None:
    """Somebody elsewhere counts as gone after three minutes without a heartbeat, and learns of it."""
    far, here = Clock(), Clock()
    theirs = client("me", Machine("far").process(), far)
    ours = client("me", Machine("near").process(), here)
    left = theirs.claim(record(), "run")
    other = theirs.claim(record("two"), "run")
    with pytest.raises(StepHeldError):
        ours.claim(record(), "run")
    here.now += STALE_AFTER - 1
    with pytest.raises(StepHeldError):
        ours.claim(record(), "run")
    here.now += 1
    orphan = ours.orphan("Made-one")
    assert orphan is not None
    assert (orphan.number, orphan.run) == (1, "run")
    attempt = ours.claim(record(), "again", adopts=lambda orphan: orphan.number == 1)
    assert (attempt.number, attempt.adopts, attempt.job_key) == (2, 1, "Made-one.1")
    assert ours.orphan("Made-one") is None
    assert not ours.settled("Made-one", 1)
    far.now += 30
    (superseded,) = theirs.renew()
    assert (superseded.attempt, superseded.adopted) == (left, True)
    assert theirs.fail(left, record(), FAILED).state is StepState.RUNNING
    fill(other)
    theirs.commit(other, record("two"), DONE)
    far.now += 30
    assert theirs.renew() == ()
    fill(attempt)
    ours.commit(attempt, record(), DONE)
    assert ours.settled("Made-one", 1)
    assert theirs.step_cache[record()] == "value"


def test_a_session_that_somebody_deleted(client: Client) -> None:
    """Whoever notices at the next renewal goes on with what nobody took meanwhile."""
    clock = Clock()
    mine, other = client("me", Machine("far").process(), clock), client("you")
    attempt = mine.claim(record(), "run")
    taken = mine.claim(record("two"), "run")
    datasets = other.site.door.datasets
    datasets.delete([each.id for each in datasets.search(SESSION) if each.id == mine.site.session.id])
    theirs = other.claim(record("two"), "run")
    clock.now += 30
    (superseded,) = mine.renew()
    assert (superseded.attempt, superseded.adopted) == (taken, False)
    with pytest.raises(StepHeldError):
        other.claim(record(), "run")
    fill(attempt)
    mine.commit(attempt, record(), DONE)
    fill(theirs)
    other.commit(theirs, record("two"), DONE)
    assert mine.completed(["Made-one", "Made-two"]) == {"Made-one", "Made-two"}


def test_renewing_many(client: Client) -> None:
    """However many attempts a client works at, renewing takes two requests for each fifty."""
    clock = Clock()
    mine = client("me", Machine().process(), clock)
    attempts = [mine.claim(record(f"s{n}"), "run") for n in range(60)]
    del mine.site.door.__dict__["datasets"]
    counting = Crashing(mine.site.door)
    clock.now += 30
    assert mine.renew() == ()
    assert counting.made <= 4
    for n, each in enumerate(attempts):
        mine.fail(each, record(f"s{n}"), FAILED)


STRANGE = [
    pytest.param({}, "notes", True, id="committed"),
    pytest.param({}, "notes", False, id="uncommitted"),
    pytest.param({"manifest.json": b'{"manifest": 1}'}, "", True, id="unsealed"),
    pytest.param({"manifest.json": b""}, "", True, id="empty"),
    pytest.param({"manifest.json": b"\xff\x00", "end.json": b"x"}, "{}", True, id="rubbish"),
    pytest.param({"result/data.json": b"1"}, '{"dispatch": 1, "step": "Made-one"}', True, id="half"),
    pytest.param({"result/data.json": b"1"}, '{"dispatch": 1, "step": "Made-one"}', False, id="half-open"),
    pytest.param({}, '{"dispatch": 1, "step": "Made-one", "adopts": "x", "session": 3}', False, id="odd"),
    pytest.param({"end.json": b"1"}, '{"dispatch": 1, "step": "Made-one"}', True, id="end"),
]


@pytest.mark.parametrize(("files", "description", "committed"), STRANGE)
def test_strange_datasets(client: Client, files: dict[str, bytes], description: str, committed: bool) -> None:
    """What lies under our names and is no result is none, and is not in the way."""
    mine = client("me")
    datasets = client("you").site.door.datasets
    made = datasets.create(f"{STEP}Made-one.{scope(mine.site)}.7", description)
    for path, data in files.items():
        datasets.write(made, path, data or b"")
    if committed:
        datasets.commit(made.dataset.id)
    assert mine.completed(["Made-one"]) == set()
    assert mine.locate("Made-one") is None
    mine.search_step_info()
    assert mine.step_info(record()).state is StepState.INCOMPLETE
    attempt = mine.claim(record(), "run")
    assert attempt.number == 8
    fill(attempt)
    mine.commit(attempt, record(), DONE)
    assert mine.step_cache[record()] == "value"
    assert [info.unique_id for info in mine.search_step_info()] == ["Made-one"]
    mine.remove_step("Made-one")
    assert mine.num_steps() == 0


def test_a_result_under_another_name(client: Client) -> None:
    """A manifest that was copied to another step's name is no result of it."""
    mine = client("me")
    complete(mine, record())
    datasets = mine.site.door.datasets
    (whole,) = datasets.search(STEP)
    made = datasets.create(f"{STEP}Made-two.{scope(mine.site)}.1", whole.description)
    datasets.write(made, "manifest.json", datasets.read(whole.id, "manifest.json"))
    datasets.commit(made.dataset.id)
    assert mine.completed(["Made-one", "Made-two"]) == {"Made-one"}
    assert mine.claim(record("two"), "run").number == 2


def test_two_workspaces_of_one_author(workspaces: BeakerWorkspaces) -> None:
    """Equal steps in two workspaces know nothing of each other."""
    one, two = (workspaces.client(workspaces.new(), cache="shared") for _ in range(2))
    assert complete(one, record(), text="1\n").number == 1
    assert two.completed(["Made-one"]) == set()
    assert complete(two, record(), text="2\n").number == 1
    assert (one.step_cache[record()], two.step_cache[record()]) == (1, 2)
    one.close()
    two.close()


def test_names_that_beaker_does_not_take(client: Client) -> None:
    """A unique id may have letters of any language, and be longer than a name on Beaker."""
    mine = client("me")
    for unique_id in ("Größe-1", "x" * 200, "名" * 60, "a.b.1", "a.b"):
        step = record("step", unique_id=unique_id)
        mine.register_run([step])
        complete(mine, step)
        assert mine.completed([unique_id]) == {unique_id}
        assert mine.step_info(unique_id).state is StepState.COMPLETED
    assert mine.num_steps() == len(mine.step_cache) == 5


def test_logs_for_other_machines(client: Client) -> None:
    """The log of an ended attempt is kept with it."""
    mine, other = client("me"), client("you")
    attempt = mine.claim(record(), "run")
    (attempt.directory / "out.log").write_text("hello\n")
    assert other.log_of_attempt("Made-one", 1) is None
    mine.fail(attempt, record(), FAILED)
    for path in (other.log_of_attempt("Made-one", 1), other.log_path("Made-one")):
        assert path is not None
        assert path.read_text() == "hello\n"


def test_time_is_beakers(client: Client) -> None:
    """A step that was removed is known again once a run wants it, whatever the clocks of its clients say."""
    mine = client("me")
    mine.register_run([record()], "first")
    complete(mine, record())
    mine.remove_step("Made-one")
    time.sleep(0.01)
    with pytest.raises(KeyError):
        client("you").step_info("Made-one")
    mine.register_run([record()], "second")
    assert client("you").step_info("Made-one").state is StepState.INCOMPLETE
