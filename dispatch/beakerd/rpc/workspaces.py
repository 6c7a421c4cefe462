"""Workspaces, and who may use them: all members of their organization may, nobody else.

A job's token sees the job's own workspace, and changes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import invalid
from dispatch.beakerd.rpc.pages import Page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import accounts, workspaces
from dispatch.beakerd.store.database import Transaction

_COLUMNS = {
    "name": "name",
    "created": "created",
    "recent_workload_activity": "activity",
    "maximum_workload_priority": "maximum_priority",
}


def resolve_workspace_name(backend: Backend, who: Principal, request: Any) -> Any:
    """The id of a name."""
    with backend.database.read() as tx:
        found = workspaces.resolve(tx, who, request.owner_name, request.workspace_name)
    return pb2.ResolveWorkspaceNameResponse(workspace_id=found)


def get_workspace(backend: Backend, who: Principal, request: Any) -> Any:
    """A workspace by id, and how much is in it."""
    with backend.database.read() as tx:
        return pb2.GetWorkspaceResponse(workspace=_one(tx, who, request.workspace_id))


def list_workspaces(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of the workspaces that the caller may use: archived ones only, or none of them."""
    page = Page.of(request, backend, _COLUMNS)
    condition, order, values = page.keyset
    with backend.database.read() as tx:
        filters = [*_filters(tx, who, page.options), (condition, values)]
        rows = page.cut(workspaces.select(tx, who, filters, order))
        sized = page.options.include_workspace_size
        found = [_workspace(row, workspaces.sizes(tx, row["id"]) if sized else None) for row in rows]
    return pb2.ListWorkspacesResponse(workspaces=found, next_page_token=page.next)


def create_workspace(backend: Backend, who: Principal, request: Any) -> Any:
    """Make a workspace in one of the caller's organizations."""
    with backend.database.write() as tx:
        accounts.person(who, "CreateWorkspace")
        owner = accounts.organization(tx, who, "id", request.organization_id)
        if request.default_budget_id:
            accounts.budget(tx, who, request.default_budget_id)
        new = {
            "name": request.name,
            "organization_id": owner["id"],
            "description": request.description,
            "budget_id": request.default_budget_id,
        }
        made = workspaces.make(tx, backend.clock, backend.ids, who, new)
        return pb2.CreateWorkspaceResponse(workspace=_one(tx, who, made))


def update_workspace(backend: Backend, who: Principal, request: Any) -> Any:
    """Change a workspace. The name of one that the configuration names is changed there."""
    with backend.database.write() as tx:
        accounts.person(who, "UpdateWorkspace")
        row = workspaces.find(tx, who, request.workspace_id)
        changes: dict[str, Any] = {"modified": backend.clock.now()}
        if request.HasField("name") and request.name != row["name"]:
            if row["declared"]:
                raise invalid(
                    f"name: {row['full_name']!r} is named in the server's configuration; change it there"
                )
            changes["name"] = accounts.check_name(request.name)
        if request.HasField("description"):
            changes["description"] = request.description
        if request.HasField("archived"):
            changes["archived"] = int(request.archived)
        if request.HasField("maximum_workspace_priority"):
            priority = request.maximum_workspace_priority
            if priority not in pb2.JobPriority.values() or not priority:
                raise invalid(f"maximum_workspace_priority: {priority} is none")
            changes["maximum_priority"] = priority
        if request.HasField("budget_id"):
            changes["budget_id"] = accounts.budget(tx, who, request.budget_id)["id"]
        accounts.change(tx, "workspaces", row["id"], changes, "workspace")
        return pb2.UpdateWorkspaceResponse(workspace=_one(tx, who, row["id"]))


def transfer_into_workspace(backend: Backend, who: Principal, request: Any) -> Any:
    """Move datasets, images and experiments into a workspace: all of them or none."""
    with backend.database.write() as tx:
        accounts.person(who, "TransferIntoWorkspace")
        row = workspaces.find(tx, who, request.workspace_id)
        for entity in request.entity_ids:
            workspaces.transfer(tx, who, backend.config.assume.names, row["id"], entity)
        return pb2.TransferIntoWorkspaceResponse(workspace=_one(tx, who, row["id"]))


def get_workspace_permissions(backend: Backend, who: Principal, request: Any) -> Any:
    """The one entry that there is: the organization."""
    with backend.database.read() as tx:
        row = workspaces.find(tx, who, request.workspace_id)
    entry = pb2.WorkspacePermissionEntry(
        permission=pb2.WorkspacePermission.WORKSPACE_PERMISSION_FULL_CONTROL,
        org=pb2.Reference(id=row["organization_id"], full_name=row["organization"]),
    )
    return pb2.GetWorkspacePermissionsResponse(permissions=[entry])


def set_workspace_permission(backend: Backend, who: Principal, request: Any) -> Any:
    """Accept what is so anyway (full control of the organization, or of one of its members), nothing else."""
    with backend.database.read() as tx:
        accounts.person(who, "SetWorkspacePermission")
        row = workspaces.find(tx, who, request.workspace_id)
        if request.HasField("user_id"):
            subject = Principal(accounts.user(tx, request.user_id)["id"], who.purpose)
            fits = accounts.is_member(tx, subject, row["organization_id"])
        else:
            fits = request.org_id == row["organization_id"]
    if not fits or request.permission != pb2.WorkspacePermission.WORKSPACE_PERMISSION_FULL_CONTROL:
        raise invalid("permission: here all members of its organization have full control of a workspace")
    return pb2.SetWorkspacePermissionResponse()


def _filters(tx: Transaction, who: Principal, options: Any) -> list[tuple[str, Sequence[Any]]]:
    found: list[tuple[str, Sequence[Any]]] = [("archived = ?", (int(options.only_archived),))]
    if options.organization_id:
        owner = accounts.organization(tx, who, "id", options.organization_id)
        found.append(("organization_id = ?", (owner["id"],)))
    if options.HasField("author_id"):
        found.append(("author_id = ?", (options.author_id,)))
    if options.HasField("workload_author_id"):
        condition = "id IN (SELECT workspace_id FROM experiments WHERE author_id = ?)"
        found.append((condition, (options.workload_author_id,)))
    if options.HasField("name_or_description_substring"):
        text = options.name_or_description_substring
        condition = "instr(lower(full_name), lower(?)) OR instr(lower(description), lower(?))"
        found.append((condition, (text, text)))
    if options.HasField("workspace_group_id"):
        found.append(("0", ()))
    return found


def _one(tx: Transaction, who: Principal, workspace_id: str) -> Any:
    return _workspace(workspaces.find(tx, who, workspace_id), workspaces.sizes(tx, workspace_id))


def _workspace(row: Any, sizes: dict[str, int] | None) -> Any:
    found = pb2.Workspace(
        id=row["id"],
        name=row["full_name"],
        description=row["description"],
        owner_org=pb2.Organization(id=row["organization_id"], name=row["organization"]),
        author_user=pb2.User(id=row["author_id"], name=row["author"]),
        archived=bool(row["archived"]),
        maximum_workload_priority=row["maximum_priority"],
        budget_id=row["budget_id"],
        size=None if sizes is None else pb2.Workspace.WorkspaceItemCount(**sizes),
    )
    found.created.FromNanoseconds(row["created"])
    found.modified.FromNanoseconds(row["modified"])
    found.owner_org.created.FromNanoseconds(row["organization_created"])
    found.author_user.created.FromNanoseconds(row["author_created"])
    return found


METHODS: dict[str, Method] = {
    "ResolveWorkspaceName": resolve_workspace_name,
    "GetWorkspace": get_workspace,
    "ListWorkspaces": list_workspaces,
    "CreateWorkspace": create_workspace,
    "UpdateWorkspace": update_workspace,
    "TransferIntoWorkspace": transfer_into_workspace,
    "GetWorkspacePermissions": get_workspace_permissions,
    "SetWorkspacePermission": set_workspace_permission,
}
