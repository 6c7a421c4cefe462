"""Runs on Beaker, and who drives them: names as locks, ends, journals, requests, what the dead left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig, WorkspaceConfig
from dispatch.errors import WorkspaceError
from dispatch.info import StepRecord
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.workspace.beaker.drives import Drives
from dispatch.workspace.beaker.runs import Runs
from dispatch.workspace.beaker.site import BeakerPorts, Site
from dispatch.workspace.driving import Request, RunHeldError
from dispatch.workspace.host import Holder, Host
from dispatch.workspace.journal import Entry, Kind
from dispatch.workspace.runs import RunRecord

SAID = Entry(Kind.SAID, 1.0, reason="hello")
STEP = StepRecord("one", "Made-one", "Made", "made", None, True, True, (), {"type": "made"})
START = datetime(2024, 5, 6, 7, 8, 9, 10, timezone.utc)


class Elsewhere(Host):
    """Another machine, as far as sessions can tell."""

    def __init__(self, name: str) -> None:
        self._name = name

    def me(self, run: str) -> Holder:
        """A process there."""
        return Holder(self._name, self._name, self._name, self._name, 7, "1", run)

    def start_of(self, pid: int) -> str | None:  # noqa: ARG002
        """What lives there, it only knows itself."""
        return "1"


class Clock:
    """A monotonic clock to be moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Client:
    """One client: a site with its runs and drives."""

    def __init__(
        self,
        beaker: LocalBeaker,
        cache: Path,
        user: str = "me",
        workspace: str = "ai2/my-workspace",
        host: Host | None = None,
    ) -> None:
        self.clock = Clock()
        ports = BeakerPorts(host=host or Host(), monotonic=self.clock)
        self.site = Site(door_of(beaker, user, workspace), cache, ports)
        self.runs = Runs(self.site)
        self.drives = Drives(self.site, self._finish)

    def _finish(self, name: str, state: str, facts: object = None) -> None:
        assert facts is None
        self.runs.put(replace(self.runs.get(name), state=state, ended=START + timedelta(hours=1)))
        self.drives.unmark(name)

    def names(self) -> list[str]:
        """What datasets there are."""
        return [each.name for each in self.site.door.datasets.search()]

    def close(self) -> None:
        """End the session, and the connections."""
        self.site.session.close()
        self.site.door.close()


def run(name: str, start: datetime = START) -> RunRecord:
    """A run of one step."""
    return RunRecord(name, start, {"one": "Made-one"}, facts={"x": 1})


CONFIG = Config(
    users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",))),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/other", "ai2/default"),
    ),
)


@pytest.fixture(params=list(NameScope), ids=lambda scope: scope.name.lower())
def server(request: pytest.FixtureRequest, beakers: Beakers) -> LocalBeaker:
    """A server with two users and two workspaces, at either scope of names."""
    return beakers.start(replace(CONFIG, assume=Assumptions(names=request.param)))


@pytest.fixture
def client_of(server: LocalBeaker, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Makes clients, each with a cache of its own."""
    made: list[Client] = []

    def make(user: str = "me", workspace: str = "ai2/my-workspace", host: str = "") -> Client:
        cache = tmp_path / f"cache{len(made)}"
        made.append(Client(server, cache, user, workspace, Elsewhere(host) if host else None))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_name_is_taken_once(client_of: Callable[..., Client]) -> None:
    """By one of all authors of the workspace; another workspace of the same author has names of its own."""
    me, you, other = client_of(), client_of("you"), client_of(workspace="ai2/other")
    assert me.runs.add(run("first"), [STEP])
    assert not me.runs.add(run("first"), [STEP])
    assert not you.runs.add(run("first"), [STEP])
    assert other.runs.add(run("first"), [STEP])
    assert you.runs.get("first") == run("first")
    assert you.runs.steps("first") == {"Made-one": STEP}
    assert you.runs.registered()["Made-one"].record == STEP
    assert list(you.runs.registered()) == ["Made-one"]
    assert [name for name in me.names() if "-run-" in name] == [
        name for name in you.names() if "-run-" in name
    ]


def test_names_that_look_like_others(client_of: Callable[..., Client]) -> None:
    """A run's end, driver or request is never taken for a run, nor one run's for another's."""
    client = client_of()
    names = ["a", "ab", "a.end.1", "a.1", "A", "x.wabcdef1", "-".join("ab")]
    for at, name in enumerate(names):
        assert client.runs.add(run(name, START + timedelta(seconds=at)), [], client.drives.first)
        client.drives.begun(name, 1).finish(f"ended {name}")
    assert [record.name for record in client.runs.all()] == names
    assert [client.runs.get(name).state for name in names] == [f"ended {name}" for name in names]
    assert client.runs.latest() == names[-1]
    client.drives.forget("a")
    client.runs.remove("a")
    assert [record.name for record in client.runs.all()] == names[1:]
    assert [client.drives.latest(name) is None for name in names] == [True] + [False] * (len(names) - 1)


def test_ends_follow_each_other(client_of: Callable[..., Client]) -> None:
    """The last one told counts, for every client; one that was begun and never told does not."""
    me, you = client_of(), client_of("you")
    me.runs.add(run("first"), [])
    me.runs.put(replace(run("first"), state="failed", ended=START, facts={"y": 2}))
    assert you.runs.get("first") == replace(run("first"), state="failed", ended=START, facts={"y": 2})
    (end,) = [each for each in me.site.door.datasets.search() if ".end." in each.name]
    me.site.door.datasets.create(end.name[:-1] + "2", "")
    assert you.runs.get("first").state == "failed"
    you.runs.put(run("first"))
    assert me.runs.get("first") == run("first")


def test_what_a_client_left_that_died_while_it_registered(client_of: Callable[..., Client]) -> None:
    """A name that it had taken is free again, with nothing of the other left; while it lives it is not."""
    dying, next_one = client_of(), client_of("you")

    def die(name: str) -> None:
        dying.drives.first(name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dying.runs.add(run("first"), [STEP], die)
    assert not next_one.runs.add(run("first"), [STEP])
    assert next_one.runs.dates() == {}
    dying.site.session.close()
    assert next_one.runs.add(run("first"), [STEP], next_one.drives.first)
    assert next_one.drives.begun("first", 1).number == 1
    assert sum("-run-" in name for name in next_one.names()) == 1


@pytest.mark.parametrize("content", [None, b"rubbish", b'{"seal": "0",\n"run": 1}'])
def test_a_foreign_dataset_under_our_name(client_of: Callable[..., Client], content: bytes | None) -> None:
    """It is no run: an error that names it where it is asked for, and left out of lists with a warning."""
    client = client_of()
    client.runs.add(run("good"), [])
    datasets = client.site.door.datasets
    (good,) = datasets.search("dispatch-run-good")
    made = datasets.create(good.name.replace("good", "bad"))
    if content is not None:
        datasets.write(made, "run.json", content)
    datasets.commit(made.dataset.id)
    with pytest.raises(WorkspaceError, match=made.dataset.id):
        client.runs.get("bad")
    with pytest.warns(UserWarning, match="left out"):
        assert [record.name for record in client.runs.all()] == ["good"]
    assert not client.runs.add(run("bad"), [])
    client.runs.remove("bad")
    assert client.runs.add(run("bad"), [])


def test_one_drives(client_of: Callable[..., Client]) -> None:
    """Somebody alive holds a run against all others; one who is heard of no more is followed, and is lost."""
    me, you = client_of(host="here"), client_of("you", host="there")
    me.runs.add(run("first"), [], me.drives.first)
    driver = me.drives.begun("first", 1)
    driver.write(SAID)
    driver.flush()
    with pytest.raises(RunHeldError, match="process 7 on here"):
        you.drives.take("first")
    you.clock.now += 181
    with pytest.raises(RunHeldError):
        # It was heard of since: its heartbeat is another than that which was seen first.
        me.clock.now += 181
        me.site.session.renew()
        you.drives.take("first")
    you.clock.now += 181
    second = you.drives.take("first")
    assert second.number == 2
    assert not driver.is_lost
    driver.write(SAID)
    driver.flush()
    assert driver.is_lost
    driver.finish("failed")
    assert you.runs.get("first").state == ""
    driver.release()
    second.write(SAID)
    second.finish("completed")
    second.release()
    told = [(each.kind, each.state) for each in me.drives.journal("first").read()]
    assert told == [(Kind.SAID, ""), (Kind.SAID, ""), (Kind.CLOSED, "completed")]
    latest = me.drives.latest("first")
    assert latest is not None
    assert (latest.number, latest.host, latest.alive) == (2, "there", False)
    assert me.drives.marked() == []


def test_a_driver_learns_that_it_is_lost(client_of: Callable[..., Client]) -> None:
    """When it looks for that, also without a word to tell."""
    me, you = client_of(host="here"), client_of("you", host="there")
    me.runs.add(run("first"), [], me.drives.first)
    driver = me.drives.begun("first", 1)
    assert you.drives.latest("first") is not None
    you.clock.now += 181
    you.drives.take("first")
    me.drives.renew()
    assert not driver.is_lost
    me.clock.now += 21
    me.drives.renew()
    assert driver.is_lost


def test_journals_are_read_while_they_are_written(client_of: Callable[..., Client]) -> None:
    """Each entry once, in order, also by whoever comes late, and in few pieces however much is told."""
    me, you = client_of(), client_of("you")
    me.runs.add(run("first"), [], me.drives.first)
    driver = me.drives.begun("first", 1)
    early = you.drives.journal("first")
    wanted = [Entry(Kind.SAID, float(at), reason=str(at)) for at in range(300)]
    seen: list[Entry] = []
    for start in range(0, 300, 100):
        for entry in wanted[start : start + 100]:
            driver.write(entry)
        driver.flush()
        seen += early.read()
        assert seen == wanted[: start + 100]
    assert you.drives.journal("first").read() == wanted
    assert early.read() == []
    (dataset,) = you.drives.drivers("first").values()
    assert len(you.site.door.datasets.files(dataset.id)) <= 9


def test_what_is_told_arrives_by_itself(client_of: Callable[..., Client]) -> None:
    """Within seconds, without a word of the driver's."""
    import time

    me, you = client_of(), client_of("you")
    me.runs.add(run("first"), [], me.drives.first)
    me.drives.begun("first", 1).write(SAID)
    journal = you.drives.journal("first")
    limit = time.monotonic() + 30
    found: list[Entry] = []
    while not found and time.monotonic() < limit:
        found = journal.read()
        time.sleep(0.05)
    assert found == [SAID]


def test_what_others_ask(client_of: Callable[..., Client]) -> None:
    """It reaches the driver once, however many look, and the network is asked at most every two seconds."""
    me, you = client_of(), client_of("you")
    me.runs.add(run("first"), [], me.drives.first)
    driver = me.drives.begun("first", 1)
    assert driver.requests() == []
    asked = Request(("one",), 2.0, "you")
    you.drives.ask("first", asked)
    assert driver.requests() == []
    me.clock.now += 2.1
    assert driver.requests() == [asked]
    me.clock.now += 2.1
    assert driver.requests() == []
    assert not [name for name in me.names() if "-ask-" in name]
    you.drives.ask("first", asked)
    driver.release()
    second = me.drives.take("first")
    assert second.requests() == []
    assert not [name for name in me.names() if "-ask-" in name]


def test_differences_are_kept(client_of: Callable[..., Client]) -> None:
    """Once for each tree, to be read by others; they go with their run."""
    me, you = client_of(), client_of("you")
    me.runs.add(run("first"), [])
    for text in (b"a\x00\xff", b"not kept"):
        me.runs.keep_difference("first", "f" * 40, text)
    me.runs.keep_difference("first", "0" * 40, b"b")
    assert [path.read_bytes() for path in you.runs.differences("first")] == [b"b", b"a\x00\xff"]
    assert [path.read_bytes() for path in you.runs.differences("first")] == [b"b", b"a\x00\xff"]
    you.runs.remove("first")
    assert not [name for name in me.names() if "session" not in name]
    for use in (me.runs.differences, me.runs.log, me.runs.remove, me.runs.steps):
        with pytest.raises(KeyError):
            use("first")


def test_runs_that_have_no_end(client_of: Callable[..., Client]) -> None:
    """They are found by one question, whoever drives them; those that ended or are gone are not."""
    me, you = client_of(), client_of("you")
    for name in ("going", "let-go", "ended", "gone"):
        me.runs.add(run(name), [], me.drives.first)
        me.drives.begun(name, 1)
    me.drives._ours["let-go"].release()
    me.drives._ours["ended"].finish("completed")
    me.drives.forget("gone")
    assert sorted(you.drives.marked()) == ["going", "let-go"]
    you.drives.take("let-go").finish("failed")
    assert you.drives.marked() == ["going"]


def test_a_driver_whose_session_was_removed(client_of: Callable[..., Client]) -> None:
    """It holds its run in the next one, and nobody can take it over."""
    me, you = client_of(host="here"), client_of("you", host="there")
    me.runs.add(run("first"), [], me.drives.first)
    me.drives.begun("first", 1)
    you.site.door.datasets.delete([me.site.session.id])
    me.clock.now += 21
    assert me.site.session.renew()
    me.drives.renew()
    with pytest.raises(RunHeldError):
        you.drives.take("first")
