"""Secrets: their bytes come back as they were, to who may have them, and are nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from beaker import BeakerSortOrder
from beaker.exceptions import BeakerError, BeakerPermissionsError, BeakerSecretNotFound

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import Config, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import Rest, rest_of

SHARED = Config(
    organizations=("ai2", "elsewhere"),
    users=(UserConfig("me", ("ai2",)), UserConfig("you", ("ai2",)), UserConfig("stranger", ("elsewhere",))),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/default"),
        WorkspaceConfig("elsewhere/theirs", "elsewhere/default"),
    ),
)
MIB = 1 << 20


@pytest.fixture
def path(beaker: LocalBeaker, workspace: str) -> Iterator[str]:
    """Where the workspace's secrets are; whatever is done with them, the server's log has no fault."""
    yield f"/api/v3/workspaces/{workspace}/secrets"
    assert [line for line in beaker.lines if "Traceback" in line] == []


def test_written_read_changed_deleted(beaker: LocalBeaker) -> None:
    """A secret as the public client has it, from nothing to nothing."""
    with beaker.client() as client:
        first = client.secret.write("TOKEN", "täglich\n'so' \0 \N{SNOWMAN}")
        assert (first.name, first.author_id) == ("TOKEN", client.user.get().id)
        assert client.secret.read(first) == "täglich\n'so' \0 \N{SNOWMAN}"
        second = client.secret.write("TOKEN", "")
        assert client.secret.read(second) == ""
        assert second.created == first.created
        assert second.updated.ToNanoseconds() > first.updated.ToNanoseconds()
        assert [secret.name for secret in client.secret.list()] == ["TOKEN"]
        client.secret.delete(second)
        with pytest.raises(BeakerSecretNotFound):
            client.secret.get("TOKEN")
        with pytest.raises(BeakerSecretNotFound):
            client.secret.delete(second)
        with pytest.raises(BeakerError):
            client.secret.read(second)
        assert list(client.secret.list()) == []


@pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), b"\xff" * MIB, b"%41", b"\r\n\r\n"])
def test_raw_bytes(beaker: LocalBeaker, path: str, value: bytes) -> None:
    """Any bytes, up to the bound, as they are; no one on the way may keep them."""
    rest = rest_of(beaker)
    assert rest.ask("PUT", f"{path}/S/value", value).status == 200
    answer = rest.ask("GET", f"{path}/S/value")
    assert (answer.status, answer.body) == (200, value)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_value_has_a_bound(beaker: LocalBeaker, path: str) -> None:
    """What is larger is refused, and the value is what it was."""
    rest = rest_of(beaker)
    rest.ask("PUT", f"{path}/S/value", b"before")
    assert rest.ask("PUT", f"{path}/S/value", b"x" * (MIB + 1)).status == 413
    assert rest.ask("GET", f"{path}/S/value").body == b"before"


NAMES = ["a/b", "a b", "ü\N{SNOWMAN}", "value", "a/value", "%2F", "a?b#c", "x" * 255, "'; --", "...", "a//b"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(beaker: LocalBeaker, name: str) -> None:
    """A name may be of anything that an address can hold, slashes too."""
    with beaker.client() as client:
        made = client.secret.write(name, f"of {name}")
        client.secret.write("other", "x")
        assert (made.name, client.secret.read(made)) == (name, f"of {name}")
        assert {secret.name for secret in client.secret.list()} == {name, "other"}
        client.secret.delete(made)
        assert [secret.name for secret in client.secret.list()] == ["other"]


@pytest.mark.parametrize("name", ["", "%00", "%0A", "%FF", "x" * 256, "%C3%A4" * 128, "%ED%A0%80", "/x"])
def test_names_that_are_none(beaker: LocalBeaker, path: str, name: str) -> None:
    """Names that are empty, too long or no text are refused with a message."""
    for method, behind in (("PUT", "/value"), ("GET", "/value"), ("DELETE", "")):
        answer = rest_of(beaker).ask(method, f"{path}/{name}{behind}", b"x" if method == "PUT" else None)
        assert 400 <= answer.status < 500
        assert answer.message
    with beaker.client() as client:
        assert list(client.secret.list()) == []


@pytest.mark.parametrize("shape", ["{}%2Fsecrets/x/value", "{}/secrets%2Fx/value", "{}/secrets/x%2Fvalue"])
def test_slashes_of_the_route_are_not_quoted(beaker: LocalBeaker, path: str, shape: str) -> None:
    """An address that is one of secrets only once it is unquoted is none."""
    address = shape.format(path.removesuffix("/secrets"))
    for method in ("PUT", "GET"):
        assert rest_of(beaker).ask(method, address, b"x" if method == "PUT" else None).status == 404


def test_every_secret_once_in_each_order(beaker: LocalBeaker) -> None:
    """Past the first page, by name and by time, up and down."""
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
        rest = rest_of(beaker)
        names = [f"S{(number * 7) % 60:02}" for number in range(60)]
        for name in names:
            rest.ask("PUT", f"/api/v3/workspaces/{workspace}/secrets/{name}/value", b"x")
        for field, expected in (("name", sorted(names)), ("created", names)):
            for order in (BeakerSortOrder.ascending, BeakerSortOrder.descending):
                found = [s.name for s in client.secret.list(sort_field=field, sort_order=order)]
                assert found == (expected if order is BeakerSortOrder.ascending else expected[::-1])
        assert len(list(client.secret.list(limit=3))) == 3


def test_who_may(beakers: Beakers) -> None:
    """Members of the organization share secrets; strangers and jobs of other workspaces get none."""
    beaker = beakers.start(SHARED)
    backend = beaker.server.backend
    assert backend is not None
    with beaker.client() as me, beaker.client("you") as you, beaker.client("stranger") as stranger:
        first, second = (me.workspace.get(f"ai2/{name}") for name in ("my-workspace", "second"))
        made = me.secret.write("S", "hidden", workspace=first)
        assert you.secret.read(made, workspace=first) == "hidden"
        who = Principal(me.user.get().id, Purpose.JOB, second.id, job_id="job")
        with backend.database.write() as tx:
            token = backend.access.issue(tx, who)
        with beaker.client(user_token=token) as job:
            assert job.secret.read(job.secret.write("J", "own", workspace=second), workspace=second) == "own"
            for client in (stranger, job):
                for call in (
                    lambda c: c.secret.get("S", workspace=first),
                    lambda c: c.secret.read(made, workspace=first),
                    lambda c: c.secret.write("S", "theirs", workspace=first),
                    lambda c: c.secret.delete(made, workspace=first),
                    lambda c: list(c.secret.list(workspace=first)),
                ):
                    with pytest.raises(BeakerPermissionsError):
                        call(client)
        assert me.secret.read(made, workspace=first) == "hidden"
    for wrong in ("wrong", None):
        web = Rest(beaker.endpoint.rest, wrong)
        assert web.ask("GET", f"/api/v3/workspaces/{first.id}/secrets/S/value").status == 401


def test_values_are_said_nowhere(beakers: Beakers) -> None:
    """Not in the server's log, not in a refusal, not in a list; after it is deleted no token gets it."""
    beaker = beakers.spawn()
    value = f"hidden-{os.urandom(8).hex()}"
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
        path = f"/api/v3/workspaces/{workspace}/secrets"
        made = client.secret.write("S", value)
        said = [str(made), *map(str, client.secret.list())]
        rest = rest_of(beaker)
        for method, where in (
            ("PUT", f"{path}/{'x' * 300}/value"),
            ("PUT", "/api/v3/workspaces/none/secrets/S/value"),
            ("POST", f"{path}/S/value"),
            ("PUT", f"{path}/%FF/value"),
            ("PUT", f"{path}/S"),
        ):
            answer = rest.ask(method, where, value.encode())
            assert 400 <= answer.status < 500
            said.append(answer.message)
        client.secret.delete(made)
        assert rest.ask("GET", f"{path}/S/value").status == 404
    beaker.terminate()
    assert value not in "".join(said)
    for file in (*beaker.layout.root.rglob("*.log"), *beaker.layout.root.rglob("*.json")):
        assert value not in file.read_text(errors="replace"), file


def test_what_is_deleted_is_in_no_file(beaker: LocalBeaker) -> None:
    """After a secret was deleted its value is nowhere in the server's state."""
    value = "a-value-that-is-found-nowhere-else"
    with beaker.client() as client:
        secret = client.secret.write("PASSWORD", value)
        assert any(value.encode() in path.read_bytes() for path in beaker.layout.root.glob("beaker.db*"))
        client.secret.delete(secret)
    kept = [path for path in beaker.layout.root.rglob("*") if path.is_file()]
    assert not [path for path in kept if value.encode() in path.read_bytes()]
