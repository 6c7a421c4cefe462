"""`dispatch beaker gc`: what runs left on Beaker goes; what lives, is a result or is not ours stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import TaskSpec
from dispatch.app import beakergc
from dispatch.app.beakergc import Bounds, Kind, Leftover
from dispatch.beakerd.config import Config, UserConfig
from dispatch.engine.beaker.names import Names, Story
from dispatch.environment import RegistryDigest
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.beaker_project import WORKSPACE, project_on
from dispatch.testing.contracts_workspace import FAILED, complete, record
from dispatch.workspace.beaker.workspace import BeakerWorkspace
from dispatch.workspace.driving import Request

# Later than anything that a test makes: nothing is too young to go.
LATER = Bounds(time.time() + 1e6, time.time() + 1e6)

Make = Callable[..., BeakerWorkspace]


@pytest.fixture
def server(beakers: Beakers) -> LocalBeaker:
    """A server with two users."""
    users = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))
    return beakers.start(replace(Config(), users=users))


@pytest.fixture
def make(server: LocalBeaker, tmp_path: Path) -> Iterator[Make]:
    """Makes clients of one workspace, as a user."""
    made: list[BeakerWorkspace] = []

    def client(user: str = "me") -> BeakerWorkspace:
        options: Any = options_of(server, user)
        made.append(BeakerWorkspace("ai2/my-workspace", cache=tmp_path / f"cache{len(made)}", **options))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def workspace(make: Make) -> BeakerWorkspace:
    """A client that looks."""
    return make()


def die(workspace: BeakerWorkspace) -> None:
    """Have a client be gone, with all that it held left as it was."""
    workspace.site.door.datasets.delete([workspace.site.session.id])


def kinds(found: tuple[Leftover, ...]) -> list[tuple[str, str]]:
    """What would go, by kind, and why."""
    return sorted((each.kind.value, each.reason) for each in found)


def dataset(workspace: BeakerWorkspace, name: str, description: str, *, commit: bool = True) -> str:
    """Make a dataset, and return its id."""
    made = workspace.site.door.datasets.create(name, description)
    if commit:
        workspace.site.door.datasets.commit(made.dataset.id)
    return made.dataset.id


def story_of(key: str, *, held: bool, secrets: tuple[str, ...] = ()) -> str:
    """What an experiment's description says."""
    return Story("first", "one", key, collected=False, held=held, secrets=secrets).to_text()


def job_of(workspace: BeakerWorkspace, key: str, origin: str = "mine") -> str:
    """Submit an experiment as the engine does, that waits for ever, with data and a secret of its own."""
    names = Names(origin)
    dataset(workspace, names.data(key), f'{{"dispatch": 1, "key": "{key}", "by": "x"}}')
    secret = names.secret(key, "TOKEN")
    workspace.site.door.secrets.write(secret, "value")
    spec = TaskSpec(
        image=RegistryDigest(f"docker.io/library/busybox@sha256:{'0' * 64}"),
        command=("true",),
        name="one",
        description=story_of(key, held=True, secrets=(secret,)),
        gpus=64,
    )
    return workspace.site.door.experiments.create(names.experiment(key), spec)


def test_nothing_is_left(workspace: BeakerWorkspace, make: Make) -> None:
    """Of what is alive, or of use, nothing goes, however old it is."""
    other, you = make(), make("you")
    driver = other.open_run([record()], "first")
    other.claim(record("running"), "first")
    complete(other, record())
    other.fail(other.claim(record("failed"), "first"), record("failed"), FAILED)
    you.fail(you.claim(record("theirs"), "x"), record("theirs"), FAILED)
    you.fail(you.claim(record("theirs"), "x"), record("theirs"), FAILED)
    you.open_run([record("theirs")], "second").finish("completed")
    workspace.ask("first", Request(None, None, "me"))
    other.keep_difference("first", "f" * 40, b"text")
    driver.finish("failed")
    dataset(workspace, "mine-own", "")
    dataset(workspace, "dispatch-bundle-mine", "not as we make them")
    dataset(workspace, "dispatch-session-notes", "{}")
    workspace.site.door.secrets.write("MY_TOKEN", "x")
    workspace.site.door.secrets.write("dispatch-clone-me", "x")
    before = {each.id for each in workspace.site.door.datasets.search()}
    assert beakergc.plan(workspace, LATER) == ()
    assert beakergc.remove(workspace, (), LATER) == ()
    assert {each.id for each in workspace.site.door.datasets.search()} == before


def test_clients_that_are_gone(workspace: BeakerWorkspace, make: Make) -> None:
    """Their sessions go, and what they left of runs that never were; a run that can go on stays."""
    gone = make()
    gone.open_run([record()], "goes-on")
    gone.site.session.renew()
    (session,) = [
        each for each in workspace.site.door.datasets.search("dispatch-session-") if not each.committed
    ]
    # A process of this machine that is no more.
    workspace.site.door.datasets.describe(session.id, session.description.replace('"pid": ', '"pid": 9'))
    assert kinds(beakergc.plan(workspace, LATER)) == [("session", "its client is gone")]
    die(gone)
    assert beakergc.plan(workspace, LATER) == ()
    assert workspace.drive("goes-on").number == 2


def test_pieces_of_runs(workspace: BeakerWorkspace, make: Make) -> None:
    """What a client left that died while it registered or removed a run, or asked something."""
    gone = make()
    gone.open_run([record()], "first").release()
    gone.ask("first", Request(None, None, "me"))
    gone.open_run([record()], "whole").release()
    gone.finish_run("whole", "failed")
    datasets = workspace.site.door.datasets
    end = next(each for each in datasets.search(".end.1") if "whole" in each.name)
    datasets.create(end.name[:-1] + "2")
    (first,) = [each for each in datasets.search("dispatch-run-first") if each.committed]
    datasets.delete([first.id])
    unfinished = datasets.create(first.name.replace("first", "never"), gone_session(gone))
    die(gone)
    plan = beakergc.plan(workspace, LATER)
    assert kinds(plan) == [
        ("run", "an end that was never told"),
        ("run", "its client died before it had stored the run"),
        ("run", "of a run that is gone"),
        ("run", "was asked of a driver that is gone"),
    ]
    assert unfinished.dataset.id in {each.id for each in plan}
    young = beakergc.plan(workspace, Bounds(0.0, 0.0))
    assert kinds(young) == [("run", "its client died before it had stored the run")]
    assert set(beakergc.remove(workspace, plan, LATER)) == set(plan)
    assert beakergc.plan(workspace, LATER) == ()
    assert workspace.run_record("whole").state == "failed"


def gone_session(workspace: BeakerWorkspace) -> str:
    """The description of what a client holds."""
    import json

    return json.dumps(workspace.site.session.describe())


def test_attempts(workspace: BeakerWorkspace, make: Make) -> None:
    """Old failures but the newest go, with what their jobs left; the newest that was cut off is closed."""
    from dispatch.location import BeakerDataset

    output = dataset(workspace, "job-output", "")
    kept = dataset(workspace, "job-result", "", commit=False)
    workspace.fail(workspace.claim(record(), "x"), record(), FAILED, output=BeakerDataset(output, "result"))
    workspace.fail(workspace.claim(record(), "x"), record(), FAILED)
    complete(workspace, record())
    gone = make()
    attempt = gone.claim(record("cut"), "x")
    die(gone)
    assert beakergc.plan(workspace, Bounds(0.0, LATER.fresh)) == ()
    plan = beakergc.plan(workspace, LATER)
    assert kinds(plan) == [
        ("attempt", "ended without a result, and was followed by another"),
        ("attempt", "ended without a result, and was followed by another"),
        ("attempt", "its client is gone, and no job"),
    ]
    assert set(beakergc.remove(workspace, plan, LATER)) == set(plan)
    left = {each.id for each in workspace.site.door.datasets.search()}
    assert output not in left
    assert kept in left
    assert workspace.completed(["Made-one"]) == {"Made-one"}
    assert beakergc.plan(workspace, LATER) == ()
    assert workspace.claim(record("cut"), "x").number == attempt.number + 1


def test_what_jobs_had(workspace: BeakerWorkspace, make: Make) -> None:
    """Data and secrets without an experiment, and bundles, go once they are old."""
    names = Names("mine")
    dataset(workspace, names.data("one.1"), '{"dispatch": 1, "key": "one.1", "by": "x"}')
    dataset(workspace, "dispatch-bundle-" + "0" * 16, '{"dispatch": 1, "bundle": "00"}')
    dataset(workspace, "dispatch-bundle-" + "1" * 16, '{"dispatch": 1, "bundle": "11"}', commit=False)
    theirs = make("you")
    dataset(theirs, names.data("two.1"), '{"dispatch": 1, "key": "two.1", "by": "x"}')
    dataset(theirs, "dispatch-bundle-" + "2" * 16, '{"dispatch": 1, "bundle": "22"}')
    for key in ("one.1", "two.1", "three.1"):
        workspace.site.door.secrets.write(names.secret(key, "TOKEN"), "x")
    # Of one that is being prepared nothing goes; of one whose data is gone nobody can be preparing it.
    young = beakergc.plan(workspace, Bounds(0.0, 0.0))
    assert [each.name for each in young] == [names.secret("three.1", "TOKEN")]
    plan = beakergc.plan(workspace, LATER)
    assert sorted(each.name for each in plan if each.kind is Kind.SECRET) == sorted(
        names.secret(key, "TOKEN") for key in ("one.1", "three.1")
    )
    assert kinds(tuple(each for each in plan if each.kind is not Kind.SECRET)) == [
        ("bundle", "no job reads it; it is sent again if need be"),
        ("bundle", "no job reads it; it is sent again if need be"),
        ("job data", "its job is over"),
    ]
    assert set(beakergc.remove(workspace, plan, LATER)) == set(plan)
    assert beakergc.plan(workspace, LATER) == ()
    assert workspace.site.door.secrets.names() == [names.secret("two.1", "TOKEN")]


def test_experiments(workspace: BeakerWorkspace, make: Make) -> None:
    """One that lives keeps all that jobs may read, a held one stays; once it is let go all of it goes."""
    experiments = workspace.site.door.experiments
    dataset(workspace, "dispatch-bundle-" + "0" * 16, '{"dispatch": 1, "bundle": "00"}')
    mine, theirs = job_of(workspace, "one.1"), job_of(make("you"), "two.1")
    assert beakergc.plan(workspace, LATER) == ()
    experiments.cancel([mine])
    assert beakergc.plan(workspace, LATER) == ()
    experiments.describe(mine, story_of("one.1", held=False))
    expected = [("experiment", "ended, and its end is recorded"), ("job data", "its job is over")]
    assert kinds(beakergc.plan(workspace, LATER)) == [*expected, ("secret", "its job is over")]
    experiments.cancel([theirs])
    experiments.describe(theirs, story_of("two.1", held=False))
    plan = beakergc.plan(workspace, LATER)
    bundle = ("bundle", "no job reads it; it is sent again if need be")
    assert kinds(plan) == [bundle, *expected, ("secret", "its job is over")]
    assert set(beakergc.remove(workspace, plan, LATER)) == set(plan)
    assert [each.id for each in experiments.search()] == [theirs]
    assert beakergc.plan(workspace, LATER) == ()


def test_an_experiment_that_is_held_by_nobody(workspace: BeakerWorkspace) -> None:
    """Its client died before it let go, and the attempt was given an end by another one since."""
    attempt = workspace.claim(record(), "first")
    origin = f"{workspace.url} {workspace.site.door.account.user_id}"
    ours = job_of(workspace, attempt.key, origin)
    job_of(workspace, attempt.key, "another workspace of ours")
    workspace.site.door.experiments.cancel(
        [each.id for each in workspace.site.door.experiments.search(own=True)]
    )
    assert beakergc.plan(workspace, LATER) == ()
    workspace.fail(attempt, record(), FAILED)
    found = [each.id for each in beakergc.plan(workspace, LATER) if each.kind is Kind.EXPERIMENT]
    assert found == [ours]


def test_the_command(server: LocalBeaker, workspace: BeakerWorkspace, tmp_path: Path) -> None:
    """It shows what would go, and removes it when it is told to."""
    project = project_on(server, tmp_path / "home")
    workspace.site.door.secrets.write(Names("mine").secret("one.1", "TOKEN"), "x")
    shown = project.dispatch("beaker", "gc").well()
    assert "secret" in shown.out
    assert "--remove" in shown.err
    assert len(project.dispatch("beaker", "gc", "--json").well().json()["items"]) == 1
    done = project.dispatch("beaker", "gc", "--remove", "--json", "-w", WORKSPACE).well().json()
    assert [(each["kind"], each["workspace"]) for each in done["items"]] == [("secret", WORKSPACE)]
    assert workspace.site.door.secrets.names() == []
    assert "nothing" in project.dispatch("beaker", "gc").well().err
    refused = project.dispatch("beaker", "gc", "-w", str(tmp_path / "here"))
    assert refused.code == 2
    assert "-w beaker://" in refused.err


def test_images_that_never_became_whole(workspace: BeakerWorkspace, make: Make) -> None:
    """One that we began to publish goes once it is old; what is young, another's, or not made by us stays."""
    digest = "0123456789abcdef" * 4
    description = f'{{"dispatch": 1, "digest": "{digest}", "lock": "x"}}'
    name, images = f"tools--{digest[:16]}", workspace.site.door.images
    begun = images.create(name, "", "", description)
    for other, text in (("tools", description), (f"{name}.2", "mine"), (f"{name}.3", '{"digest": 1}')):
        images.create(other, "", "", text)
    make("you").site.door.images.create(name, "", "", description)
    young = beakergc.plan(workspace, Bounds(time.time() - 3600, time.time() + 1e6))
    assert not [each for each in young if each.kind is Kind.IMAGE]
    found = [each for each in beakergc.plan(workspace, LATER) if each.kind is Kind.IMAGE]
    assert [(each.name, each.id) for each in found] == [(name, begun)]
    assert beakergc.remove(workspace, tuple(found), LATER) == tuple(found)
    assert begun not in [each.id for each in images.search()] and len(images.search()) == 4
