"""Accounts, organizations, workspaces and budgets, asked for with the real client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2
from beaker.exceptions import (
    BeakerBudgetNotFound,
    BeakerClientError,
    BeakerOrganizationNotFound,
    BeakerPermissionsError,
    BeakerUserNotFound,
    BeakerWorkspaceNotFound,
)
from beaker.types import BeakerAuthRole, BeakerJobPriority, BeakerSortOrder

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rows import BY_HAND, HandJobs

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SEVERAL = replace(
    BY_HAND,
    organizations=("ai2", "other"),
    users=(
        UserConfig("me", ("ai2",), admin=True),
        UserConfig("ann", ("ai2",), "ann@example.org"),
        UserConfig("stranger", ("other",)),
        UserConfig("both", ("ai2", "other")),
    ),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/big", "Second one", "high"),
        WorkspaceConfig("other/theirs", "other/default"),
    ),
)


@pytest.fixture
def several(beakers: Beakers) -> LocalBeaker:
    """A server with two organizations."""
    return beakers.start(SEVERAL)


def job_token(beaker: LocalBeaker) -> str:
    """The token of a job of ``ai2/my-workspace``, of the user ``both``."""
    backend = beaker.server.backend
    assert backend is not None
    job = HandJobs(beaker).queue(author="both")
    with backend.database.write() as tx:
        row = tx.execute("SELECT author_id, workspace_id FROM jobs WHERE id = ?", (job,)).fetchone()
        return backend.access.issue(tx, Principal(row[0], Purpose.JOB, row[1], job))


def pairs(answer: Any) -> list[str]:
    """The names of what is listed."""
    return [each.name for each in answer]


def call(client: Any, name: str, request: Any) -> Any:
    """A method that the client does not wrap."""
    metadata = [("authorization", f"bearer {client.config.user_token}")]
    return getattr(client.service, name)(request, metadata=metadata)


def test_the_caller_is_the_user_of_the_token(beaker: LocalBeaker) -> None:
    """A token stands for its user, who has a name, and details where they are asked for."""
    with beaker.client() as client:
        user = client.user.get()
        assert (user.name, client.user_name) == ("me", "me")
        assert client.user.get("me").id == client.user.get(user.id).id == user.id
        assert not user.HasField("user_details")
        assert client.user.get(include_user_details=True).user_details.role == 4
        with pytest.raises(BeakerUserNotFound):
            client.user.get("nobody")


def test_a_method_that_is_not_there_is_said_to_be(beaker: LocalBeaker) -> None:
    """What the server does not know is UNIMPLEMENTED, which the client raises as NotImplementedError."""
    with beaker.client() as client, pytest.raises(NotImplementedError):
        client.queue.get(UNKNOWN)


def test_users_of_an_organization(several: LocalBeaker) -> None:
    """Members are listed to members, by name or by age, both ways."""
    with several.client("ann") as client:
        assert pairs(client.user.list()) == ["ann", "both", "me"]
        assert pairs(client.user.list(sort_order=BeakerSortOrder.descending)) == ["me", "both", "ann"]
        by_age = client.user.list(sort_field="created", sort_order=BeakerSortOrder.ascending)
        assert pairs(by_age) == ["me", "ann", "both"]
        assert pairs(client.user.list(limit=1)) == ["ann"]
        (first, *_) = client.user.list(include_user_details=True)
        assert first.user_details.email == "ann@example.org"
        with pytest.raises(BeakerPermissionsError):
            list(client.user.list(org=several.client("stranger").organization.get("other")))


def test_who_may_make_and_change_users(several: LocalBeaker) -> None:
    """An administrator makes users, with a configuration of their own; everybody changes their own record;
    what the configuration says is changed there."""
    with several.client() as admin, several.client("ann") as ann:
        made = admin.user.create(name="new.user", email="n@example.org")
        assert (made.name, made.user_details.email) == ("new.user", "n@example.org")
        with several.client("new.user") as fresh:
            assert fresh.user.get().id == made.id
            assert fresh.user.update(display_name="New", pronouns="they").display_name == "New"
            assert pairs(fresh.workspace.list()) == ["ai2/my-workspace", "ai2/second"]
            assert fresh.user.update(name="newer").name == "newer"
        assert not (several.layout.users / "new.user" / "config.yml").exists()
        with several.client("newer") as fresh:
            assert fresh.user.get().name == "newer"
            with pytest.raises(BeakerPermissionsError):
                fresh.user.update(role=BeakerAuthRole.admin)
        for name in ("new user", "-x", "", "a/b", "..", "\u00e4", "me", "x" * 300):
            with pytest.raises(BeakerClientError):
                admin.user.create(name=name)
        for change in ({"name": "annie"}, {"role": BeakerAuthRole.admin}):
            with pytest.raises(BeakerClientError, match="configuration"):
                admin.user.update(ann.user.get(), **change)
        attempts: tuple[Callable[[], Any], ...] = (
            lambda: ann.user.create(name="x"),
            lambda: ann.user.update(admin.user.get(), email="x"),
            lambda: ann.user.update(role=BeakerAuthRole.admin),
        )
        for refused in attempts:
            with pytest.raises(BeakerPermissionsError):
                refused()


def test_a_deactivated_user(several: LocalBeaker, beakers: Beakers) -> None:
    """A deactivated user's token ends, also over a restart, and another one comes with the activation."""
    with several.client() as admin:
        made = admin.user.create(name="x")
        with several.client("x") as client:
            admin.user.update(made, role=BeakerAuthRole.deactivated)
            with pytest.raises(grpc.RpcError) as caught:
                client.user.get()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    several.stop()
    again = beakers.start(SEVERAL)
    assert not (again.layout.users / "x" / "config.yml").exists()
    with again.client() as admin:
        admin.user.update(made, role=BeakerAuthRole.scientist)
        with again.client("x") as client:
            assert client.user.get().name == "x"


def test_a_new_token(several: LocalBeaker) -> None:
    """A new token ends all earlier ones of its user, and nobody else's; the configuration has it."""
    with several.client("ann") as client, several.client() as other:
        token = client.user.regenerate_auth_token()
        with pytest.raises(grpc.RpcError) as caught:
            client.user.get()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with several.client("ann") as again:
            assert again.config.user_token == token
            assert again.user.get().name == "ann"
        assert other.user.get().name == "me"
        assert other.user.regenerate_auth_token()
    assert oct((several.layout.users / "ann" / "config.yml").stat().st_mode)[-3:] == "600"
    # The token of the machine itself, which `dispatch beaker` uses, stays.
    with several.client(user_token=several.endpoint.admin_token) as local:
        assert local.user.get().name == "me"


def test_users_outlive_a_restart(beakers: Beakers) -> None:
    """Users that were made stay, with their tokens; one that the configuration names no more has none, until
    it is named again."""
    first = beakers.start(SEVERAL)
    with first.client() as admin:
        admin.user.create(name="made")
    token = first.client("made").config.user_token
    first.stop()
    second = beakers.start(replace(SEVERAL, users=SEVERAL.users[:1]))
    with second.client("made") as client:
        assert client.config.user_token == token
        assert client.user.get().name == "made"
        assert client.user.get("ann").name == "ann"
    assert not (second.layout.users / "ann" / "config.yml").exists()
    second.stop()
    third = beakers.start(SEVERAL)
    with third.client("ann") as client:
        assert client.user.get().name == "ann"


def test_organizations(several: LocalBeaker) -> None:
    """Members see their organizations, and nobody else's."""
    with several.client("both") as client:
        assert pairs(client.organization.list()) == ["other", "ai2"]
        assert pairs(client.organization.list(BeakerSortOrder.ascending)) == ["ai2", "other"]
        assert client.organization.get("other").name == "other"
        theirs = client.organization.get("other")
    with several.client("ann") as client:
        assert client.org_name == "ai2"
        assert pairs(client.organization.list()) == ["ai2"]
        with pytest.raises(BeakerOrganizationNotFound):
            client.organization.get("nothing")
        with pytest.raises(BeakerPermissionsError):
            client.organization.get("other")
        with pytest.raises(BeakerPermissionsError):
            list(client.workspace.list(org=theirs))


def test_a_workspace(several: LocalBeaker) -> None:
    """A workspace has its full name, its budget, its highest priority, and how much is in it."""
    HandJobs(several).queue()
    with several.client("ann") as client:
        found = client.workspace.get("ai2/my-workspace")
        assert found.name == "ai2/my-workspace"
        assert found.owner_org.name == "ai2"
        assert found.author_user.name == "me"
        assert (
            found.budget_id
            == call(
                client,
                "ResolveBudgetName",
                pb2.ResolveBudgetNameRequest(organization_name="ai2", budget_name="default"),
            ).budget_id
        )
        assert found.size.experiments == 1
        assert client.workspace.get().id == client.workspace.get(found.id).id == found.id
        assert client.workspace.get("ai2/second").maximum_workload_priority == BeakerJobPriority.high.as_pb2()
        for name in ("ai2/nothing", "nowhere/x", UNKNOWN):
            with pytest.raises(BeakerWorkspaceNotFound):
                client.workspace.get(name)
        with pytest.raises(BeakerPermissionsError):
            client.workspace.get("other/theirs")


def test_workspaces_are_listed(several: LocalBeaker) -> None:
    """Every sort and filter, for what the caller may see."""
    with several.client("ann") as client:
        ann, me = client.user.get(), client.user.get("me")
        client.workspace.create("ai2/third", description="By ann")
        HandJobs(several).queue(author="ann")
        names = {
            "name": ["ai2/my-workspace", "ai2/second", "ai2/third"],
            "created": ["ai2/third", "ai2/second", "ai2/my-workspace"],
            "recent_workload_activity": ["ai2/my-workspace", "ai2/third", "ai2/second"],
            "maximum_workload_priority": ["ai2/third", "ai2/my-workspace", "ai2/second"],
        }
        for field, expected in names.items():
            found = pairs(client.workspace.list(sort_field=field))
            if field == "maximum_workload_priority":
                assert found[-1] == "ai2/second"
                continue
            assert found == expected
            order = BeakerSortOrder.descending if field == "name" else BeakerSortOrder.ascending
            assert pairs(client.workspace.list(sort_field=field, sort_order=order)) == expected[::-1]
        filters: list[tuple[dict[str, Any], list[str]]] = [
            ({"author": ann}, ["ai2/third"]),
            ({"author": me}, ["ai2/my-workspace", "ai2/second"]),
            ({"workload_author": ann}, ["ai2/my-workspace"]),
            ({"workload_author": me}, []),
            ({"name_or_description": "SECOND"}, ["ai2/second"]),
            ({"name_or_description": "by ann"}, ["ai2/third"]),
            ({"name_or_description": "%"}, []),
            ({"only_archived": True}, []),
            ({"limit": 2}, ["ai2/my-workspace", "ai2/second"]),
        ]
        for given, expected in filters:
            assert pairs(client.workspace.list(**given)) == expected
        sized = list(client.workspace.list(include_workspace_size=True))
        assert [each.size.experiments for each in sized] == [1, 0, 0]
        assert not next(iter(client.workspace.list())).HasField("size")
    with several.client("both") as client:
        assert pairs(client.workspace.list(org=client.organization.get("other"))) == ["other/theirs"]
        every = call(client, "ListWorkspaces", pb2.ListWorkspacesRequest())
        assert len(every.workspaces) == 4


def test_workspaces_are_made_and_changed(several: LocalBeaker) -> None:
    """A new workspace has the organization's budget; names are checked and unique."""
    with several.client("ann") as client:
        made = client.workspace.create("new", description="d")
        assert (made.name, made.description, bool(made.budget_id)) == ("ai2/new", "d", True)
        changed = client.workspace.update(
            made,
            name="newer",
            description="e",
            archived=True,
            budget="ai2/big",
            maximum_workspace_priority=BeakerJobPriority.low,
        )
        assert (changed.name, changed.description, changed.archived) == ("ai2/newer", "e", True)
        assert changed.maximum_workload_priority == BeakerJobPriority.low.as_pb2()
        assert changed.budget_id != made.budget_id
        assert changed.modified.ToNanoseconds() > made.modified.ToNanoseconds()
        assert pairs(client.workspace.list(only_archived=True)) == ["ai2/newer"]
        assert "ai2/newer" not in pairs(client.workspace.list())
        with pytest.raises(BeakerClientError, match="already in use"):
            client.workspace.create("ai2/newer")
        with pytest.raises(BeakerClientError, match="already in use"):
            client.workspace.update(changed, name="second")
        with pytest.raises(BeakerClientError, match="configuration"):
            client.workspace.update(client.workspace.get("ai2/second"), name="x")
        request = pb2.CreateWorkspaceRequest(name="a/b", organization_id=made.owner_org.id)
        with pytest.raises(grpc.RpcError) as caught:
            call(client, "CreateWorkspace", request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(BeakerPermissionsError):
            client.workspace.create("other/x")


def test_an_organization_without_a_budget(beakers: Beakers) -> None:
    """A workspace always has a budget, since tools ask people for one else."""
    config = replace(BY_HAND, organizations=("ai2", "bare"), users=(UserConfig("me", ("ai2", "bare")),))
    with beakers.start(config).client() as client:
        made = client.workspace.create("bare/x")
        budget = call(client, "GetBudget", pb2.GetBudgetRequest(budget_id=made.budget_id)).budget
        assert (budget.full_name, budget.organization_name) == ("bare/default", "bare")


def test_budgets(several: LocalBeaker) -> None:
    """Budgets are made, found by id and name, and listed, for members of their organization."""
    with several.client("ann") as client:
        ai2 = client.organization.get("ai2").id
        made = call(client, "CreateBudget", pb2.CreateBudgetRequest(name="new", organization_id=ai2)).budget
        assert made.full_name == "ai2/new"
        options = pb2.ListBudgetsRequest.Opts(organization_id=ai2)
        listed = call(client, "ListBudgets", pb2.ListBudgetsRequest(options=options)).budgets
        assert pairs(listed) == ["big", "default", "new"]
        with pytest.raises(BeakerBudgetNotFound):
            client.workspace.update(budget="ai2/nothing")
        with pytest.raises(BeakerPermissionsError):
            client.workspace.update(budget="other/default")


def test_things_are_moved_between_workspaces(several: LocalBeaker) -> None:
    """Experiments that have ended are moved whole, all or none; of strangers nothing is moved."""
    jobs = HandJobs(several)
    job = jobs.queue()
    backend = several.server.backend
    assert backend is not None
    with backend.database.read() as tx:
        experiment = tx.execute("SELECT experiment_id FROM jobs WHERE id = ?", (job,)).fetchone()[0]
    with several.client("ann") as client:
        second = client.workspace.get("ai2/second")
        with pytest.raises(BeakerClientError, match="not ended"):
            client.workspace.transfer_into(entity_ids=[experiment], workspace=second)
        jobs.end(job)
        with pytest.raises(Exception, match="not found"):
            client.workspace.transfer_into(entity_ids=[experiment, UNKNOWN], workspace=second)
        assert client.workspace.get("ai2/second").size.experiments == 0
        moved = client.workspace.transfer_into(entity_ids=[experiment], workspace=second)
        assert moved.size.experiments == 1
    with several.client("stranger") as client, pytest.raises(BeakerPermissionsError):
        client.workspace.transfer_into(
            entity_ids=[experiment], workspace=client.workspace.get("other/theirs")
        )
    with backend.database.read() as tx:
        place = tx.execute("SELECT workspace_id FROM jobs WHERE id = ?", (job,)).fetchone()[0]
    assert place == second.id


def test_permissions(several: LocalBeaker) -> None:
    """An organization has full control of its workspaces: that may be said again, and nothing else."""
    with several.client("ann") as client:
        workspace = client.workspace.get()
        got = call(
            client, "GetWorkspacePermissions", pb2.GetWorkspacePermissionsRequest(workspace_id=workspace.id)
        )
        (entry,) = got.permissions
        assert (entry.org.full_name, entry.permission) == ("ai2", 4)
        fine = [
            {"org_id": workspace.owner_org.id, "permission": 4},
            {"user_id": client.user.get().id, "permission": 4},
        ]
        for each in fine:
            request = pb2.SetWorkspacePermissionRequest(workspace_id=workspace.id, **each)
            call(client, "SetWorkspacePermission", request)
        stranger = client.user.get("stranger").id
        for each in (
            {"user_id": stranger, "permission": 4},
            {"org_id": workspace.owner_org.id, "permission": 2},
        ):
            request = pb2.SetWorkspacePermissionRequest(workspace_id=workspace.id, **each)
            with pytest.raises(grpc.RpcError) as caught:
                call(client, "SetWorkspacePermission", request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_job_sees_its_own_workspace(several: LocalBeaker) -> None:
    """A job's token sees the job's workspace and its organization, and changes no account."""
    with several.client(user_token=job_token(several)) as client:
        assert client.user.get().name == "both"
        assert client.workspace.get("ai2/my-workspace").name == "ai2/my-workspace"
        assert pairs(client.workspace.list()) == ["ai2/my-workspace"]
        assert pairs(client.organization.list()) == ["ai2"]
        workspace = client.workspace.get()
        refused: list[Callable[[], Any]] = [
            lambda: client.workspace.get("ai2/second"),
            lambda: client.organization.get("other"),
            lambda: client.workspace.create("x"),
            lambda: client.workspace.update(workspace, description="x"),
            lambda: client.workspace.transfer_into(entity_ids=[], workspace=workspace),
            lambda: client.user.regenerate_auth_token(),
            lambda: client.user.update(display_name="x"),
            lambda: client.user.create(name="x"),
        ]
        for attempt in refused:
            with pytest.raises(BeakerPermissionsError):
                attempt()


def test_declared_facts_are_renewed(beakers: Beakers) -> None:
    """A restart with another configuration changes what it declares, and keeps ids and what was added."""
    first = beakers.start(SEVERAL)
    with first.client() as client:
        before = client.workspace.get("ai2/second")
        client.workspace.update(before, description="changed")
    first.stop()
    second = beakers.start(
        replace(
            SEVERAL,
            users=(SEVERAL.users[0], UserConfig("ann", ("other",))),
            workspaces=(SEVERAL.workspaces[0], WorkspaceConfig("ai2/second", "ai2/other", "", "low")),
        )
    )
    with second.client() as client:
        after = client.workspace.get("ai2/second")
        assert (after.id, after.description) == (before.id, "changed")
        assert after.maximum_workload_priority == BeakerJobPriority.low.as_pb2()
        assert after.budget_id != before.budget_id
    with second.client("ann") as client, pytest.raises(BeakerPermissionsError):
        client.workspace.get("ai2/second")
