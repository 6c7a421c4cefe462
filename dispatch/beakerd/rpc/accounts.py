"""Users, organizations and budgets.

Owns who may change them: a user itself, an administrator everybody; a job's token nobody. What the
configuration says (a name, a role) is changed there.
"""

from __future__ import annotations

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd import users
from dispatch.beakerd.access import ROLE_DEACTIVATED, Principal, may_administer
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Problem, forbidden, invalid, not_found
from dispatch.beakerd.rpc.pages import Page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import accounts
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.setup import ROLE_SCIENTIST

_TEXTS = ("display_name", "pronouns", "email")


def get_user(backend: Backend, who: Principal, request: Any) -> Any:
    """A user by id, or the caller."""
    with backend.database.read() as tx:
        row = accounts.user(tx, request.user_id or who.user_id)
    return pb2.GetUserResponse(user=_user(row, request.include_user_details))


def resolve_user_name(backend: Backend, _who: Principal, request: Any) -> Any:
    """The id of a name."""
    with backend.database.read() as tx:
        row = tx.execute("SELECT id FROM users WHERE name = ?", (request.user_name,)).fetchone()
    if row is None:
        raise not_found("user", request.user_name)
    return pb2.ResolveUserNameResponse(user_id=row["id"])


def list_users(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of an organization's members, or of everybody."""
    page = Page.of(request, backend, {"created": "created", "name": "name"})
    with backend.database.read() as tx:
        wanted = page.options.organization_id or None
        if wanted is not None:
            accounts.organization(tx, who, "id", wanted)
        rows = page.cut(accounts.users(tx, wanted, page.keyset))
    details = page.options.include_user_details
    return pb2.ListUsersResponse(users=[_user(row, details) for row in rows], next_page_token=page.next)


def create_user(backend: Backend, who: Principal, request: Any) -> Any:
    """Make a user, a member of the caller's organizations, with a configuration on this machine."""
    with backend.database.write() as tx:
        _administrator(tx, who, "CreateUser")
        user_id = backend.ids.new()
        row = (user_id, request.name, request.email, backend.clock.now())
        accounts.make_user(tx, row, who.user_id, ROLE_SCIENTIST)
        users.give_token(backend, tx, user_id, request.name)
        return pb2.CreateUserResponse(user=_user(accounts.user(tx, user_id), True))


def update_user(backend: Backend, who: Principal, request: Any) -> Any:
    """Change what is known of a user. A deactivated one's tokens end."""
    with backend.database.write() as tx:
        accounts.person(who, "UpdateUser")
        row = accounts.user(tx, request.user_id or who.user_id)
        if row["id"] != who.user_id or request.HasField("role"):
            _administrator(tx, who, "UpdateUser")
        changes = {name: getattr(request, name) for name in _TEXTS if request.HasField(name)}
        if request.HasField("name") and request.name != row["name"]:
            _undeclared(row, "name")
            changes["name"] = accounts.check_name(request.name)
        if request.HasField("role") and request.role != row["role"]:
            if request.role not in pb2.AuthRole.values() or not request.role:
                raise invalid(f"role: {request.role} is none")
            _undeclared(row, "role")
            changes["role"] = request.role
        accounts.change(tx, "users", row["id"], changes, "user")
        if "name" in changes:
            users.rename(backend, row["name"], request.name)
        found = accounts.user(tx, row["id"])
        if changes.get("role") == ROLE_DEACTIVATED:
            users.revoke(backend, tx, found["id"], found["name"])
        elif "role" in changes and row["role"] == ROLE_DEACTIVATED:
            users.give_token(backend, tx, found["id"], found["name"])
    return pb2.UpdateUserResponse(user=_user(found, True))


def regenerate_user_auth_token(backend: Backend, who: Principal, _request: Any) -> Any:
    """A new token for the caller; earlier ones end, and the caller's configuration here has the new one."""
    with backend.database.write() as tx:
        accounts.person(who, "RegenerateUserAuthToken")
        token = users.give_token(backend, tx, who.user_id, accounts.user(tx, who.user_id)["name"])
    return pb2.RegenerateUserAuthTokenResponse(token=token)


def get_organization(backend: Backend, who: Principal, request: Any) -> Any:
    """An organization by id."""
    with backend.database.read() as tx:
        row = accounts.organization(tx, who, "id", request.organization_id)
    return pb2.GetOrganizationResponse(organization=organization_message(row))


def resolve_organization_name(backend: Backend, who: Principal, request: Any) -> Any:
    """The id of a name."""
    with backend.database.read() as tx:
        row = accounts.organization(tx, who, "name", request.organization_name)
    return pb2.ResolveOrganizationNameResponse(organization_id=row["id"])


def list_organizations(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of the organizations that the caller is a member of."""
    page = Page.of(request, backend, {"created": "created"})
    member = page.options.member_user_id if page.options.HasField("member_user_id") else None
    with backend.database.read() as tx:
        rows = page.cut(accounts.organizations(tx, who, member, page.keyset))
    found = [organization_message(row) for row in rows]
    return pb2.ListOrganizationsResponse(organizations=found, next_page_token=page.next)


def get_budget(backend: Backend, who: Principal, request: Any) -> Any:
    """A budget by id."""
    with backend.database.read() as tx:
        return pb2.GetBudgetResponse(budget=_budget(accounts.budget(tx, who, request.budget_id)))


def resolve_budget_name(backend: Backend, who: Principal, request: Any) -> Any:
    """The id of a name."""
    with backend.database.read() as tx:
        owner = accounts.organization(tx, who, "name", request.organization_name)
        row = tx.execute(
            "SELECT id FROM budgets WHERE organization_id = ? AND name = ?",
            (owner["id"], request.budget_name),
        ).fetchone()
    if row is None:
        raise not_found("budget", f"{request.organization_name}/{request.budget_name}")
    return pb2.ResolveBudgetNameResponse(budget_id=row["id"])


def list_budgets(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of an organization's budgets."""
    page = Page.of(request, backend, {"name": "name"})
    with backend.database.read() as tx:
        owner = accounts.organization(tx, who, "id", page.options.organization_id)
        rows = page.cut(accounts.budgets(tx, owner["id"], page.keyset))
    return pb2.ListBudgetsResponse(budgets=[_budget(row) for row in rows], next_page_token=page.next)


def create_budget(backend: Backend, who: Principal, request: Any) -> Any:
    """Make a budget in one of the caller's organizations."""
    with backend.database.write() as tx:
        accounts.person(who, "CreateBudget")
        owner = accounts.organization(tx, who, "id", request.organization_id)
        budget_id = backend.ids.new()
        accounts.make_budget(tx, budget_id, owner["id"], request.name, backend.clock.now())
        return pb2.CreateBudgetResponse(budget=_budget(accounts.budget(tx, who, budget_id)))


def organization_message(row: Any) -> Any:
    """An organization as the API shows it."""
    found = pb2.Organization(id=row["id"], name=row["name"], description=row["description"])
    found.display_name = row["name"]
    found.created.FromNanoseconds(row["created"])
    return found


def _user(row: Any, details: bool) -> Any:
    user = pb2.User(
        id=row["id"], name=row["name"], display_name=row["display_name"], pronouns=row["pronouns"]
    )
    user.created.FromNanoseconds(row["created"])
    if details:
        user.user_details.email = row["email"]
        user.user_details.role = row["role"]
    return user


def _budget(row: Any) -> Any:
    budget = pb2.Budget(
        id=row["id"],
        name=row["name"],
        organization_id=row["organization_id"],
        organization_name=row["organization"],
        full_name=f"{row['organization']}/{row['name']}",
    )
    budget.created.FromNanoseconds(row["created"])
    return budget


def _administrator(tx: Transaction, who: Principal, what: str) -> None:
    if not may_administer(tx, who):
        raise forbidden(f"{what}: only an administrator may do that")


def _undeclared(row: Any, what: str) -> None:
    if row["origin"] == "config":
        raise _declared(f"user {row['name']!r}", what)


def _declared(thing: str, what: str) -> Problem:
    return invalid(f"{what}: {thing} is named in the server's configuration; change it there")


METHODS: dict[str, Method] = {
    "GetUser": get_user,
    "ResolveUserName": resolve_user_name,
    "ListUsers": list_users,
    "CreateUser": create_user,
    "UpdateUser": update_user,
    "RegenerateUserAuthToken": regenerate_user_auth_token,
    "GetOrganization": get_organization,
    "ResolveOrganizationName": resolve_organization_name,
    "ListOrganizations": list_organizations,
    "GetBudget": get_budget,
    "ResolveBudgetName": resolve_budget_name,
    "ListBudgets": list_budgets,
    "CreateBudget": create_budget,
}
