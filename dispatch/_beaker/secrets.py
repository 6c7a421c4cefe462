"""Secrets of a workspace: written only when they change, and removed. A value is never in a message."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from beaker import beaker_pb2 as pb2

from dispatch._beaker.account import Account
from dispatch._beaker.problems import BeakerNotFoundError


class Secrets:
    """The secrets of one workspace."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._call = account.call

    def write(self, name: str, value: str) -> bool:
        """Give a secret a value, and say whether it had another one or none."""
        if self._read(name) == value:
            return False
        self._call(
            f"secret {name}",
            lambda: self._client.secret.http_request(
                f"{self._path(name)}/value", method="PUT", data=value.encode()
            ),
        )
        return True

    def names(self) -> list[str]:
        """Return the names of the workspace's secrets."""
        workspace = pb2.Workspace(id=self._account.workspace_id)
        found = self._call("secrets", lambda: list(self._client.secret.list(workspace=workspace)))
        return [each.name for each in found]

    def delete(self, name: str) -> None:
        """Remove a secret; one that is gone is no error."""
        try:
            self._call(
                f"secret {name}",
                lambda: self._client.secret.http_request(
                    self._path(name),
                    method="DELETE",
                    exceptions_for_status={404: FileNotFoundError(name)},
                ),
            )
        except BeakerNotFoundError:
            return

    def _read(self, name: str) -> str | None:
        try:
            response = self._call(
                f"secret {name}",
                lambda: self._client.secret.http_request(
                    f"{self._path(name)}/value",
                    method="GET",
                    exceptions_for_status={404: FileNotFoundError(name)},
                ),
            )
        except BeakerNotFoundError:
            return None
        return str(response.content.decode())

    def _path(self, name: str) -> str:
        return f"workspaces/{self._account.workspace_id}/secrets/{self._client.secret._url_quote(name)}"
