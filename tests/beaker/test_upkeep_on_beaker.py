"""Looking after a workspace on Beaker: what is damaged is found and mended, and what nothing needs goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dispatch.beakerd.config import Config as ServerConfig
from dispatch.beakerd.config import UserConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.contracts_workspace import DONE, FAILED, complete, fill, record
from dispatch.workspace.base import Workspace
from dispatch.workspace.beaker import upkeep
from dispatch.workspace.beaker.sealed import seal
from dispatch.workspace.beaker.workspace import BeakerWorkspace
from dispatch.workspace.check import Kind as Wrong
from dispatch.workspace.collect import Kind
from dispatch.workspace.repair import Action

LATER = datetime.now(timezone.utc) + timedelta(days=40)
MONTH = timedelta(days=30)


@pytest.fixture
def server(beakers: Beakers) -> LocalBeaker:
    """A server with two users."""
    users = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))
    return beakers.start(replace(ServerConfig(), users=users))


@pytest.fixture
def workspace(server: LocalBeaker, tmp_path: Path) -> Iterator[BeakerWorkspace]:
    """A user's workspace."""
    options: Any = options_of(server)
    made = BeakerWorkspace("ai2/my-workspace", cache=tmp_path / "cache", **options)
    yield made
    made.close()


@pytest.fixture
def other(server: LocalBeaker, tmp_path: Path) -> Iterator[BeakerWorkspace]:
    """The same workspace, as a teammate sees it from another machine."""
    options: Any = options_of(server, "you")
    made = BeakerWorkspace("ai2/my-workspace", cache=tmp_path / "other", **options)
    yield made
    made.close()


def test_nothing_is_wrong(workspace: BeakerWorkspace, other: BeakerWorkspace) -> None:
    """With results, failures, running steps, removed ones and runs of two users there is nothing to find."""
    workspace.open_run([record(), record("two")], "first")
    complete(workspace, record())
    other.fail(other.claim(record("two"), "first"), record("two"), FAILED)
    other.claim(record("three"), "first")
    complete(other, record("four"))
    workspace.remove_step("Made-four")
    for each in (workspace, other):
        assert list(upkeep.examine(each)) == []
        assert upkeep.plan_repair(each).actions == ()


def test_a_result_that_is_another_than_was_committed(workspace: BeakerWorkspace) -> None:
    """Beaker's digests tell; it is taken away, and the step can be computed, as another attempt."""
    datasets, small = workspace.site.door.datasets, workspace.site.small
    complete(workspace, record())
    (good,) = datasets.search("dispatch-step-Made-one.")
    stored = small.read(good, "manifest.json")
    assert stored is not None
    (file,) = [each for each in datasets.files(good.id) if each.path.startswith("result/")]
    claimed = json.loads(json.dumps(stored).replace("Made-one", "Made-two").replace(file.sha256, "0" * 64))
    name = good.name.replace("Made-one", "Made-two")
    made = datasets.create(name, good.description.replace("Made-one", "Made-two"))
    datasets.write(made, file.path, datasets.read(good.id, file.path))
    datasets.write(made, "manifest.json", seal(claimed))
    datasets.commit(made.dataset.id)
    (finding,) = upkeep.examine(workspace)
    assert (finding.kind, finding.unique_id, finding.place) == (Wrong.RESULT, "Made-two", made.dataset.name)
    plan = upkeep.plan_repair(workspace)
    assert [each.action for each in plan.actions] == [Action.REMOVE]
    assert upkeep.apply_repair(workspace, plan) == plan.actions
    assert upkeep.apply_repair(workspace, plan) == ()
    assert list(upkeep.examine(workspace)) == []
    assert workspace.completed(["Made-one", "Made-two"]) == {"Made-one"}
    assert complete(workspace, record("two")).number > 1


def test_a_result_whose_dataset_is_gone(workspace: BeakerWorkspace) -> None:
    """A pointer to nowhere is found, and its step computed again."""
    from dispatch.location import BeakerDataset

    datasets = workspace.site.door.datasets
    output = datasets.create("job-result")
    datasets.write(output, "result/data.json", b"1")
    datasets.commit(output.dataset.id)
    attempt = workspace.claim(record(), "run")
    workspace.commit(attempt, record(), DONE, output=BeakerDataset(output.dataset.id, "result"))
    assert list(upkeep.examine(workspace)) == []
    datasets.delete([output.dataset.id])
    (finding,) = upkeep.examine(workspace)
    assert finding.kind is Wrong.RESULT
    plan = upkeep.plan_repair(workspace)
    assert upkeep.apply_repair(workspace, plan) == plan.actions
    assert workspace.locate("Made-one") is None
    assert complete(workspace, record()).number > attempt.number


def test_a_damaged_run_is_told(workspace: BeakerWorkspace) -> None:
    """Only its user can say what to do about it; until then no result is taken for one that no run names."""
    complete(workspace, record())
    workspace.register_run([], "good")
    datasets = workspace.site.door.datasets
    (good,) = datasets.search("dispatch-run-good")
    bad = datasets.create(good.name.replace("good", "bad"))
    datasets.commit(bad.dataset.id)
    (finding,) = upkeep.examine(workspace)
    assert (finding.kind, finding.place) == (Wrong.RUN, bad.dataset.name)
    assert "dispatch remove bad" in finding.remedy
    assert upkeep.plan_repair(workspace).actions == ()
    assert Kind.RESULT not in {each.kind for each in upkeep.plan_collection(workspace, MONTH, LATER).items}
    with pytest.warns(UserWarning, match="bad"):
        workspace.remove_run("bad")
    assert Kind.RESULT in {each.kind for each in upkeep.plan_collection(workspace, MONTH, LATER).items}


def kinds(items: object) -> list[tuple[str, str | None]]:
    """What would go, of which step."""
    assert isinstance(items, tuple)
    return sorted((item.kind.value, item.unique_id) for item in items)


def test_what_is_not_needed_goes(workspace: BeakerWorkspace, other: BeakerWorkspace) -> None:
    """Old results of ours that no run names, and old failures but the newest attempt at a step; no more."""
    for name in ("named", "free", "tried", "at-work"):
        for _ in range(2):
            workspace.fail(workspace.claim(record(name), "run"), record(name), FAILED)
    complete(workspace, record("named"))
    complete(workspace, record("free"))
    complete(other, record("theirs"))
    workspace.register_run([record("named")], "first")
    attempt = workspace.claim(record("at-work"), "run")
    soon = datetime.now(timezone.utc)
    assert upkeep.plan_collection(workspace, MONTH, soon).items == ()
    plan = upkeep.plan_collection(workspace, MONTH, LATER)
    remote = tuple(item for item in plan.items if item.kind is not Kind.WORK)
    assert kinds(remote) == [
        ("attempt", "Made-free"),
        ("attempt", "Made-free"),
        ("attempt", "Made-named"),
        ("attempt", "Made-named"),
        ("attempt", "Made-tried"),
        ("result", "Made-free"),
    ]
    assert all(item.size > 0 for item in remote)
    assert set(upkeep.apply_collection(workspace, plan)) == set(plan.items)
    left = upkeep.plan_collection(workspace, MONTH, LATER).items
    assert [item for item in left if item.kind is Kind.RESULT] == []
    fill(attempt)
    workspace.commit(attempt, record("at-work"), DONE)
    assert workspace.completed(["Made-named", "Made-free", "Made-theirs", "Made-at-work"]) == {
        "Made-named",
        "Made-theirs",
        "Made-at-work",
    }
    # Numbers go on.
    assert workspace.claim(record("tried"), "run").number == 3
    assert workspace.claim(record("free"), "run").number == 5


def test_what_came_into_use_meanwhile_stays(workspace: BeakerWorkspace, other: Workspace) -> None:
    """Between plan and removal a run names a result, and somebody begins another attempt."""
    complete(workspace, record("free"))
    workspace.fail(workspace.claim(record("tried"), "run"), record("tried"), FAILED)
    workspace.fail(workspace.claim(record("tried"), "run"), record("tried"), FAILED)
    plan = upkeep.plan_collection(workspace, MONTH, LATER)
    assert kinds(tuple(item for item in plan.items if item.kind is not Kind.WORK)) == [
        ("attempt", "Made-tried"),
        ("result", "Made-free"),
    ]
    other.register_run([record("free")], "late")
    other.claim(record("tried"), "late")
    gone = upkeep.apply_collection(workspace, plan)
    assert kinds(tuple(item for item in gone if item.kind is not Kind.WORK)) == []
    assert other.completed(["Made-free"]) == {"Made-free"}
