"""Secrets with the real client: names and values of any kind, who sees them, and where they are not."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import requests
from beaker import BeakerSortOrder
from beaker.exceptions import BeakerError, BeakerPermissionsError, BeakerSecretNotFound

from dispatch.beakerd.config import Config, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker

NAMES = ["TOKEN", "with space", "a/b", "a%2Fb", "naïve-雪", "?x=1&y#z", "..x", "+", "%", "'; --", "\\"]
VALUES = ["value", "", "雪\n\x00\t", "x" * (1 << 20)]


def test_any_name(beaker: LocalBeaker) -> None:
    """Each name has its own secret, however it is quoted on the way."""
    with beaker.client() as client:
        for number, name in enumerate(NAMES):
            assert client.secret.write(name, f"value {number}").name == name
        for number, name in enumerate(NAMES):
            assert client.secret.read(client.secret.get(name)) == f"value {number}"
        assert [secret.name for secret in client.secret.list()] == sorted(NAMES)
        created = [secret.name for secret in client.secret.list(sort_field="created")]
        assert created == NAMES[::-1]
        down = [secret.name for secret in client.secret.list(sort_order=BeakerSortOrder.descending)]
        assert down == sorted(NAMES, reverse=True)
        for name in NAMES:
            client.secret.delete(client.secret.get(name))
        assert list(client.secret.list()) == []


@pytest.mark.parametrize("value", VALUES, ids=["plain", "empty", "odd", "largest"])
def test_any_value(beaker: LocalBeaker, value: str) -> None:
    """Values come back as they were written, and again after they were written anew."""
    with beaker.client() as client:
        first = client.secret.write("S", "before")
        second = client.secret.write("S", value)
        assert client.secret.read(second) == value
        assert second.created == first.created
        assert second.updated.ToNanoseconds() > first.updated.ToNanoseconds()
        assert second.author_id == client.user.get().id


def test_bytes_that_are_no_text(beaker: LocalBeaker) -> None:
    """A value is bytes; one beyond the limit is refused and leaves what was there."""
    with beaker.client() as client:
        client.secret.write("S", "kept")
        url = f"http://{beaker.endpoint.rest}/api/v3/workspaces/{client.workspace.get().id}/secrets/S/value"
        headers = {"Authorization": f"Bearer {beaker.token()}"}
        assert requests.put(url, bytes(range(256)), headers=headers, timeout=30).status_code == 200
        assert requests.get(url, headers=headers, timeout=30).content == bytes(range(256))
        assert requests.put(url, bytes((1 << 20) + 1), headers=headers, timeout=30).status_code == 413
        assert requests.get(url, headers=headers, timeout=30).content == bytes(range(256))


def test_what_is_not_there(beaker: LocalBeaker) -> None:
    """Secrets that are not there are said to be so; names that are none are refused."""
    with beaker.client() as client:
        with pytest.raises(BeakerSecretNotFound):
            client.secret.get("none")
        secret = client.secret.write("S", "value")
        client.secret.delete(secret)
        with pytest.raises(BeakerSecretNotFound):
            client.secret.delete(secret)
        with pytest.raises(BeakerError, match="404"):
            client.secret.read(secret)
        with pytest.raises(BeakerError, match="400"):
            client.secret.write("x" * 256, "value")


def test_pages(beaker: LocalBeaker) -> None:
    """More secrets than a page holds are all listed."""
    with beaker.client() as client:
        names = [f"S{number:03}" for number in range(120)]
        for name in names:
            client.secret.write(name, name)
        assert [secret.name for secret in client.secret.list()] == names
        assert [secret.name for secret in client.secret.list(limit=60)] == names[:60]


def refused(call: Any, *arguments: Any, **options: Any) -> None:
    """Hold that a call is not permitted."""
    with pytest.raises(BeakerPermissionsError):
        call(*arguments, **options)


def test_secrets_are_a_workspaces(beakers: Beakers) -> None:
    """Each workspace has its own; only members of its organization get at them."""
    beaker = beakers.start(
        Config(
            organizations=("ai2", "other"),
            users=(UserConfig("me", ("ai2",), admin=True), UserConfig("they", ("other",))),
            workspaces=(
                WorkspaceConfig("ai2/my-workspace", "ai2/default"),
                WorkspaceConfig("ai2/second", "ai2/default"),
            ),
        )
    )
    with beaker.client() as me, beaker.client("they") as they:
        second = me.workspace.get("ai2/second")
        secret = me.secret.write("S", "first")
        me.secret.write("S", "second", workspace=second)
        assert me.secret.read(secret) == "first"
        assert me.secret.read(secret, workspace=second) == "second"
        refused(they.secret.get, "S", workspace=second)
        refused(they.secret.read, secret, workspace=second)
        refused(they.secret.write, "S", "x", workspace=second)
        refused(they.secret.delete, secret, workspace=second)
        refused(lambda: list(they.secret.list(workspace=second)))


def test_values_are_in_no_log(beakers: Beakers) -> None:
    """A value is in nothing that the server says, and in no file but its database."""
    beaker = beakers.spawn()
    with beaker.client() as client:
        secret = client.secret.write("S", "hush-hush-value")
        assert client.secret.read(secret) == "hush-hush-value"
    found = subprocess.run(
        ["grep", "-rl", "hush-hush-value", str(beaker.layout.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    names = {line.rpartition("/")[2] for line in found.stdout.split()}
    assert names <= {"beaker.db", "beaker.db-wal"}
    assert names
