"""A client on Beaker that dies before or after any one of its calls: a plain re-run is right, always."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch.beakerd.config import Assumptions, Config, NameScope
from dispatch.errors import StepStateError
from dispatch.info import StepState
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_crash import Crash, Crashing, Machine, Process
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_workspace import DONE, FAILED, complete, fill, record
from dispatch.workspace.base import Attempt, StepCompletedError
from dispatch.workspace.beaker.names import STEP
from dispatch.workspace.beaker.site import BeakerPorts
from dispatch.workspace.beaker.workspace import BeakerWorkspace

Scenario = Callable[[BeakerWorkspace], None]


@pytest.fixture(scope="module")
def by_scope(
    authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[NameScope, BeakerWorkspaces]]:
    """A server for each idea of unique names."""
    root = tmp_path_factory.mktemp("crash")
    beakers = Beakers(root, tls=authority / "tls")
    beakers.prepare()
    yield {
        names: BeakerWorkspaces(
            beakers.start(Config(assume=Assumptions(names=names)), names.value), root / names.value
        )
        for names in NameScope
    }
    beakers.close()


@pytest.fixture
def workspaces(by_scope: dict[NameScope, BeakerWorkspaces]) -> BeakerWorkspaces:
    """The server where names are unique for each author."""
    return by_scope[NameScope.AUTHOR]


each_scope = pytest.mark.parametrize("names", list(NameScope), ids=lambda names: names.value)


class World:
    """A workspace, and processes of one machine that work in it."""

    def __init__(self, workspaces: BeakerWorkspaces) -> None:
        self._workspaces = workspaces
        self.name = workspaces.new()
        self.machine = Machine()

    def client(self) -> tuple[BeakerWorkspace, Process]:
        """Begin a process."""
        process = self.machine.process()
        ports = BeakerPorts(host=process)
        return self._workspaces.client(self.name, cache=f"{self.name}/cache", ports=ports), process

    def crash(self, act: Scenario, at: int, *, after: bool) -> bool:
        """Let a process die at a call; False where it came to its end before."""
        client, process = self.client()
        crashing = Crashing(client.site.door, at, after=after)
        try:
            act(client)
        except Crash:
            return True
        finally:
            self.machine.kill(process)
        assert crashing.made <= at
        return False


def points(world: Callable[[], World], prepare: Scenario, act: Scenario) -> Iterator[World]:
    """Yield a world for each point at which a process can die while it acts, after it died there."""
    for at in itertools.count():
        for after in (False, True):
            made = world()
            client, _ = made.client()
            prepare(client)
            client.close()
            if not made.crash(act, at, after=after):
                assert at > 3
                return
            yield made


def rerun(client: BeakerWorkspace) -> bool:
    """Have a result, as a plain re-run has; say whether that had to be computed."""
    try:
        attempt = client.claim(record(), "again")
    except StepCompletedError:
        return False
    fill(attempt)
    client.commit(attempt, record(), DONE)
    return True


def is_whole(client: BeakerWorkspace) -> None:
    """Hold that the step has its result, and nothing is left of anybody's work."""
    assert client.step_info("Made-one").state is StepState.COMPLETED
    assert client.step_cache[record()] == "value"
    client.verify("Made-one", deep=True)
    assert client.completed(["Made-one"]) == {"Made-one"}
    open_ones = client.site.door.datasets.search(STEP, committed=False)
    assert open_ones == []
    with pytest.raises(StepCompletedError):
        client.claim(record(), "again")


def nothing(_: BeakerWorkspace) -> None:
    """Prepare nothing."""


def run(client: BeakerWorkspace) -> None:
    """Run a step."""
    complete(client, record())


@each_scope
def test_dying_while_a_step_runs(by_scope: dict[NameScope, BeakerWorkspaces], names: NameScope) -> None:
    """The next one has the result; where the manifest had been written, without computing anything."""
    died = 0
    for world in points(lambda: World(by_scope[names]), nothing, run):
        client, _ = world.client()
        left = client.site.door.datasets.search(STEP)
        written = any(
            file.path == "manifest.json"
            for each in left
            for file in client.site.door.datasets.files(each.id, "manifest.json")
        )
        assert rerun(client) is not written
        is_whole(client)
        died += 1
        client.close()
    assert died > 20


def test_dying_while_a_failure_is_recorded(workspaces: BeakerWorkspaces) -> None:
    """The attempt has failed, or its end is not known; the next one runs."""

    def act(client: BeakerWorkspace) -> None:
        client.fail(client.claim(record(), "run"), record(), FAILED)

    for world in points(lambda: World(workspaces), nothing, act):
        client, _ = world.client()
        try:
            state = client.step_info("Made-one").state
        except KeyError:
            state = StepState.INCOMPLETE
        assert state in (StepState.FAILED, StepState.INCOMPLETE)
        assert rerun(client)
        is_whole(client)
        client.close()


def test_dying_while_a_result_is_replaced(workspaces: BeakerWorkspaces) -> None:
    """The old result counts, or the new one, and never none."""

    def act(client: BeakerWorkspace) -> None:
        attempt = client.claim(record(), "run", replace=True)
        fill(attempt, '"new"\n')
        client.commit(attempt, record(), DONE)

    for world in points(lambda: World(workspaces), run, act):
        client, _ = world.client()
        assert client.step_cache[record()] in ("value", "new")
        attempt = client.claim(record(), "again", replace=True)
        fill(attempt)
        client.commit(attempt, record(), DONE)
        is_whole(client)
        client.close()


@pytest.mark.parametrize("what", ["step", "result"])
def test_dying_while_something_is_removed(workspaces: BeakerWorkspaces, what: str) -> None:
    """It is there, or gone; and it can be removed again, and made again."""

    def act(client: BeakerWorkspace) -> None:
        if what == "step":
            client.remove_step("Made-one")
        else:
            del client.step_cache[record()]

    for world in points(lambda: World(workspaces), run, act):
        client, _ = world.client()
        if client.completed(["Made-one"]):
            assert client.step_cache[record()] == "value"
            act(client)
        assert client.completed(["Made-one"]) == set()
        assert client.locate("Made-one") is None
        assert rerun(client)
        is_whole(client)
        client.close()


@each_scope
def test_coming_back_from_the_dead(by_scope: dict[NameScope, BeakerWorkspaces], names: NameScope) -> None:
    """Who was taken for lost and goes on changes nothing, at whatever point it had stopped."""
    outcomes = set()
    for at in itertools.count():
        world = World(by_scope[names])
        slow, process = world.client()
        attempts: list[Attempt] = []
        crashing = Crashing(slow.site.door, at)
        try:
            attempts.append(slow.claim(record(), "slow"))
            fill(attempts[0], '"slow"\n')
            slow.commit(attempts[0], record(), DONE)
        except Crash:
            pass
        if not crashing.dead:
            break
        world.machine.kill(process)
        client, _ = world.client()
        try:
            taken = client.claim(record(), "quick")
        except StepCompletedError:
            taken = None
        crashing.revive()
        for attempt in attempts:
            fill(attempt, '"slow"\n')
            try:
                slow.commit(attempt, record(), DONE)
                outcomes.add("first" if taken is None else "both")
            except StepStateError:
                outcomes.add("refused")
        if taken is not None:
            fill(taken, '"quick"\n')
            client.commit(taken, record(), DONE)
        for each in (client, slow):
            assert each.step_cache[record()] == ("slow" if taken is None else "quick")
        assert client.site.door.datasets.search(STEP, committed=False) == []
        client.close()
        slow.close()
    assert outcomes == {"first", "refused"}
