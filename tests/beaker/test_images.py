"""Images over the API, with the real client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from beaker import beaker_pb2 as pb2
from beaker.exceptions import BeakerClientError, BeakerImageNotFound, BeakerPermissionsError
from beaker.types import BeakerSortOrder

from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.registry import Repository, rest, workspace_of

CONFIG = Config(
    organizations=("ai2", "other"),
    users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("other",))),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/default"),
        WorkspaceConfig("other/theirs", "other/default"),
    ),
    images={"ai2/conda": "local:1", "beaker-py/gantry": "local:2", "me/base": "local:3"},
)


@pytest.fixture
def beaker(beaker_of: Callable[[Config], LocalBeaker]) -> LocalBeaker:
    """A server with two users, and images of its configuration."""
    return beaker_of(CONFIG)


def listed(client: Any, **more: Any) -> list[str]:
    """The full names of images, in the order in which they are listed."""
    return [image.full_name for image in client.image.list(org=pb2.Organization(id=""), **more)]


def test_an_image_by_name_and_by_id(beaker: LocalBeaker) -> None:
    """A name resolves to the id, for those who may see it; both lead to the same image."""
    made = Repository(beaker, "mine").make()
    with beaker.client() as client:
        image = client.image.get("me/mine")
        assert image == client.image.get(made.image) == client.image.get("mine")
        assert (image.full_name, image.HasField("committed")) == ("me/mine", False)
        for name in ("me/none", "nobody/mine", "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            with pytest.raises(BeakerImageNotFound):
                client.image.get(name)
    with beaker.client("you") as client:
        with pytest.raises(BeakerImageNotFound):
            client.image.get("me/mine")
        with pytest.raises(BeakerPermissionsError):
            client.image.get(made.image)


@pytest.mark.parametrize("name", ["ai2/conda", "beaker-py/gantry", "me/base"])
@pytest.mark.parametrize("user", ["me", "you"])
def test_images_of_the_configuration_are_everybodys_and_nobodys(
    beaker: LocalBeaker, name: str, user: str
) -> None:
    """They resolve whoever stands before the slash, are committed, and change only in the configuration."""
    with beaker.client(user) as client:
        image = client.image.get(name)
        assert image.full_name == name and image.HasField("committed")
        for change in (client.image.delete, lambda it: client.image.update(it, name="other")):
            with pytest.raises(BeakerPermissionsError):
                change(image)


def test_images_of_the_configuration_follow_it(beakers: Beakers) -> None:
    """Ids stay over restarts; what is named no longer is gone, and a name that a user has is left to the
    user."""
    first = beakers.start(CONFIG)
    with first.client() as client:
        before = client.image.get("ai2/conda")
    Repository(first, "later").make()
    first.stop()
    second = beakers.start(
        Config(users=CONFIG.users, organizations=CONFIG.organizations, workspaces=CONFIG.workspaces,
               images={"ai2/conda": "local:9", "me/later": "local:4"})
    )  # fmt: skip
    with second.client() as client:
        after = client.image.get("ai2/conda")
        assert (after.id, after.docker_tag) == (before.id, "local:9")
        with pytest.raises(BeakerImageNotFound):
            client.image.get("beaker-py/gantry")
        assert not client.image.get("me/later").docker_tag
    assert any("me/later" in line for line in second.lines)


def test_names_are_taken_once_and_free_again_after_a_delete(beaker: LocalBeaker) -> None:
    """A second image of one name is a conflict, by REST and by a change of name."""
    first = Repository(beaker, "one").make()
    body = {"workspace": workspace_of(beaker)}
    again = rest(beaker, "POST", "/api/v3/images?name=one", json=body)
    assert again.status_code == 409 and "already in use" in again.json()["message"]
    with beaker.client() as client:
        two = client.image.get(Repository(beaker, "two").make().image)
        with pytest.raises(BeakerClientError, match="in use"):
            client.image.update(two, name="one")
        changed = client.image.update(two, name="three", description="said")
        assert (changed.name, changed.description) == ("three", "said")
        client.image.delete(client.image.get(first.image))
        with pytest.raises(BeakerImageNotFound):
            client.image.get("me/one")
        assert client.image.update(changed, name="one").full_name == "me/one"
        with pytest.raises(BeakerClientError):
            client.image.update(changed, name="-no name")


@pytest.mark.parametrize(("scope", "status"), [(NameScope.AUTHOR, 409), (NameScope.WORKSPACE, 200)])
def test_the_scope_of_names_is_a_switch(
    beaker_of: Callable[[Config], LocalBeaker], scope: NameScope, status: int
) -> None:
    """One name twice of one author, in two workspaces; the newest is what the name resolves to."""
    config = Config(workspaces=CONFIG.workspaces[:2], assume=Assumptions(names=scope))
    beaker = beaker_of(config)
    Repository(beaker, "one").make()
    backend = beaker.server.backend
    assert backend is not None
    with backend.database.read() as tx:
        second = tx.execute("SELECT id FROM workspaces WHERE name = 'second'").fetchone()[0]
    made = rest(beaker, "POST", "/api/v3/images?name=one", json={"workspace": second})
    assert made.status_code == status
    if status == 200:
        with beaker.client() as client:
            assert client.image.get("me/one").id == made.json()["id"]


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("?name=x", {}, 404),
        ("?name=x", {"workspace": "none"}, 404),
        ("?name=x", {"workspace": 5}, 400),
        ("?name=x", {"workspace": "$", "imageId": []}, 400),
        ("?name=x", {"workspace": "$", "budget": "none"}, 404),
        ("?name=-x", {"workspace": "$"}, 400),
        ("?name=a/b", {"workspace": "$"}, 400),
        ("?name=" + "x" * 200, {"workspace": "$"}, 400),
        ("", {"workspace": "$"}, 200),
        ("", {"workspace": "$", "unknown": 1, "description": None}, 200),
    ],
)
def test_what_an_image_is_made_of(beaker: LocalBeaker, query: str, body: dict[str, Any], status: int) -> None:
    """Rubbish is refused with a message; a name is not needed; unknown fields pass."""
    if body.get("workspace") == "$":
        body = {**body, "workspace": workspace_of(beaker)}
    answer = rest(beaker, "POST", f"/api/v3/images{query}", json=body)
    assert answer.status_code == status and (status == 200 or answer.json()["message"])


def test_nobody_makes_images_in_workspaces_of_others(beaker: LocalBeaker) -> None:
    """Another organization's workspace is closed: for making, committing and pushing."""
    mine = Repository(beaker, "mine").make()
    body = {"workspace": workspace_of(beaker)}
    for method, path, sent in (
        ("POST", "/api/v3/images?name=x", body),
        ("GET", f"/api/v3/images/{mine.image}/repository?upload=True", None),
        ("PATCH", f"/api/v3/images/{mine.image}", {"commit": True}),
    ):
        assert rest(beaker, method, path, "you", json=sent).status_code == 403
    with beaker.client("you") as client, pytest.raises(BeakerPermissionsError):
        client.image.delete(pb2.Image(id=mine.image))


def test_lists_are_sorted_filtered_and_paged(beaker: LocalBeaker) -> None:
    """By name or by age, forward or back, by words, author and workspace, over any number of pages."""
    names = [f"image-{number:02}" for number in range(60)]
    for name in reversed(names):
        Repository(beaker, name).make()
    Repository(beaker, "theirs", "you").make()
    mine = [f"me/{name}" for name in names]
    seeded = ["me/base", "ai2/conda", "beaker-py/gantry"]
    with beaker.client() as client:
        client.image.MAX_PAGE_SIZE = 7
        descending, ascending = BeakerSortOrder.descending, BeakerSortOrder.ascending
        assert listed(client) == [image.full_name for image in client.image.list()] == seeded + mine
        assert listed(client, sort_order=descending) == (seeded + mine)[::-1]
        assert listed(client, sort_field="created", sort_order=descending)[:60] == mine
        assert listed(client, sort_field="created", sort_order=ascending)[3:] == mine[::-1]
        assert listed(client, limit=5) == (seeded + mine)[:5]
        assert listed(client, name_or_description="IMAGE-0") == mine[:10]
        assert listed(client, name_or_description="%") == []
        workspace = pb2.Workspace(id=workspace_of(beaker, "you"))
        assert listed(client, workspace=workspace) == []
    with beaker.client("you") as client:
        assert listed(client, author=client.user.get()) == ["you/theirs"]
