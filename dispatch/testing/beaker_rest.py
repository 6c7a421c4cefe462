"""Requests to a local Beaker's HTTP side as they are, without a client that mends or repeats them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dispatch.testing.beaker import BeakerProcess, LocalBeaker

LIMIT = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def message(self) -> str:
        """What a public client shows of a refusal."""
        return str(json.loads(self.body)["message"])

    @property
    def value(self) -> Any:
        """The JSON in it."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Rest:
    """Where to ask, and the token to ask with; None sends none."""

    address: str
    token: str | None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask once. An underscore in a header's name stands for a dash."""
        return self.ask_as(method, path, body, {name.replace("_", "-"): headers[name] for name in headers})

    def ask_as(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Ask once, with these headers."""
        line = http.client.HTTPConnection(self.address, timeout=LIMIT)
        known = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        try:
            line.request(method, path, body, {**known, **headers})
            answer = line.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            line.close()


def rest_of(beaker: LocalBeaker | BeakerProcess, user: str = "me") -> Rest:
    """A user's way to a server."""
    return Rest(beaker.endpoint.rest, beaker.token(user))


@dataclass(frozen=True)
class Store:
    """One dataset and its storage."""

    rest: Rest
    dataset: str

    def put(self, path: str, body: bytes, **headers: str) -> Answer:
        """Send a file."""
        return self.rest.ask("PUT", f"/datasets/{self.dataset}/files/{path}", body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        """Read a file."""
        return self.rest.ask("GET", f"/datasets/{self.dataset}/files/{path}", None, **headers)

    def delete(self, path: str) -> Answer:
        """Remove a file."""
        return self.rest.ask("DELETE", f"/datasets/{self.dataset}/files/{path}")

    def begin(self) -> str:
        """Begin an upload, and return its id."""
        answer = self.rest.ask("POST", "/uploads")
        assert answer.status == 200, answer
        return answer.headers["Upload-ID"]

    def piece(self, upload: str, body: bytes, offset: int, length: int) -> Answer:
        """Send a piece of an upload."""
        where = {"Upload-Offset": str(offset), "Upload-Length": str(length)}
        return self.rest.ask_as("PATCH", f"/uploads/{upload}", body, where)


def new_dataset(rest: Rest, workspace: str, name: str = "") -> Store:
    """Make a dataset, and return its storage."""
    body = json.dumps({"workspace": workspace}).encode()
    made = rest.ask("POST", f"/api/v3/datasets?name={name}", body)
    assert made.status == 200, made
    return storage_of(rest, made.value["id"])


def storage_of(rest: Rest, dataset: str) -> Store:
    """The storage of a dataset."""
    shown = rest.ask("GET", f"/api/v3/datasets/{dataset}")
    assert shown.status == 200, shown
    return Store(Rest(rest.address, shown.value["storage"]["token"]), dataset)


def uploads_of(beaker: LocalBeaker | BeakerProcess) -> list[str]:
    """What lies where uploads do."""
    return sorted(path.name for path in beaker.layout.uploads.iterdir())


def tree_of(beaker: LocalBeaker | BeakerProcess, dataset: str) -> dict[str, bytes]:
    """A dataset's files as a job would see them."""
    root = beaker.layout.files(dataset)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
