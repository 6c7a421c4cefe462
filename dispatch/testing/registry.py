"""A client of the local Beaker's registry, by raw HTTP, for tests.

Owns one image made over REST, its push token, and the requests of a push in single steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import requests

from dispatch.testing.beaker import LocalBeaker

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def digest_of(content: bytes) -> str:
    """The digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(config: bytes, *layers: bytes) -> bytes:
    """A manifest of schema 2 over blobs."""

    def descriptor(content: bytes) -> dict[str, Any]:
        return {
            "digest": digest_of(content),
            "size": len(content),
            "mediaType": "application/octet-stream",
        }

    parts = [descriptor(layer) for layer in layers]
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config), "layers": parts}
    return json.dumps(value).encode()


def rest(beaker: LocalBeaker, method: str, path: str, user: str = "me", **more: Any) -> requests.Response:
    """A request to REST, as a user."""
    lines = (beaker.layout.users / user / "config.yml").read_text().splitlines()
    token = next(line.split(": ")[1] for line in lines if line.startswith("user_token: "))
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://{beaker.endpoint.rest}{path}"
    return requests.request(method, url, headers=headers, timeout=60, **more)


def workspace_of(beaker: LocalBeaker, user: str = "me") -> str:
    """A workspace that a user may use, by its id."""
    assert beaker.server.backend is not None
    with beaker.server.backend.database.read() as tx:
        row = tx.execute(
            "SELECT w.id FROM workspaces w JOIN members m ON m.organization_id = w.organization_id"
            " JOIN users u ON u.id = m.user_id WHERE u.name = ? ORDER BY w.created LIMIT 1",
            (user,),
        ).fetchone()
    return str(row[0])


class Repository:
    """An image of a user's, and its place in the registry. :meth:`make` it first."""

    def __init__(self, beaker: LocalBeaker, name: str = "", user: str = "me"):
        self.beaker = beaker
        self.user = user
        self._name = name
        self.image = ""
        self.token = ""

    def make(self) -> Repository:
        """Make the image, and get its push token."""
        body = {"workspace": workspace_of(self.beaker, self.user)}
        made = rest(self.beaker, "POST", f"/api/v3/images?name={self._name}", self.user, json=body)
        assert made.status_code == 200, made.text
        self.image = made.json()["id"]
        place = rest(self.beaker, "GET", f"/api/v3/images/{self.image}/repository?upload=True", self.user)
        self.token = place.json()["auth"]["password"]
        return self

    @property
    def path(self) -> str:
        """Where the repository is."""
        return f"/v2/{self.image.lower()}"

    def call(
        self,
        method: str,
        path: str,
        data: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> requests.Response:
        """A request to the registry; a path that begins with a slash is whole, else it is the image's."""
        whole = path if path.startswith("/") else f"{self.path}/{path}"
        return requests.request(
            method,
            f"http://{self.beaker.endpoint.rest}{whole}",
            data=data,
            headers=headers,
            auth=("beaker", self.token if token is None else token),
            timeout=60,
        )

    def begin(self) -> str:
        """Begin an upload, and return its path."""
        answer = self.call("POST", "blobs/uploads/")
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    def push(self, content: bytes) -> str:
        """Push a blob as engines do, and return its digest."""
        upload = self.begin()
        assert self.call("PATCH", upload, iter([content])).status_code == 202
        answer = self.call("PUT", f"{upload}?digest={digest_of(content)}")
        assert answer.status_code == 201, answer.text
        return digest_of(content)

    def put_manifest(
        self, body: bytes, reference: str = "latest", media_type: str = MANIFEST
    ) -> requests.Response:
        """Push a manifest."""
        return self.call("PUT", f"manifests/{reference}", body, {"Content-Type": media_type})

    def fill(self, *layers: bytes) -> Repository:
        """Push a whole image."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "of": self._name}).encode()
        for content in (config, *layers):
            self.push(content)
        answer = self.put_manifest(manifest_of(config, *layers))
        assert answer.status_code == 201, answer.text
        return self

    def commit(self) -> requests.Response:
        """Commit the image."""
        return rest(self.beaker, "PATCH", f"/api/v3/images/{self.image}", self.user, json={"commit": True})
