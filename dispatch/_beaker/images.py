"""Images: declared, committed, found, and where to push and pull them. Pushing itself is the engine's."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from beaker import beaker_pb2 as pb2
from beaker import exceptions as theirs

from dispatch._beaker.account import Account
from dispatch._beaker.model import Image
from dispatch._beaker.problems import BeakerNotFoundError
from dispatch._beaker.values import image_of, made_id


@dataclass(frozen=True)
class Repository:
    """Where an image's bytes are: a tag of a registry, and who may push or pull there."""

    tag: str
    user: str
    password: str = field(repr=False)
    server: str


class Images:
    """The images of one workspace, as one account sees them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._call = account.call

    def create(self, name: str, image_id: str, tag: str, description: str) -> str:
        """Declare an image of the engine's (``image_id`` ``sha256:…``), and return its id on Beaker.

        BeakerConflictError where the name is taken.
        """
        made = self._call(
            f"image {name}",
            lambda: self._client.image.http_request(
                "images",
                method="POST",
                query={"name": name},
                data={
                    "workspace": self._account.workspace_id,
                    "imageId": image_id,
                    "imageTag": tag,
                    "description": description,
                    "budget": None,
                },
                exceptions_for_status={409: theirs.BeakerImageConflict(name)},
            ).json(),
        )
        return made_id(f"image {name}", made)

    def repository(self, image_id: str, *, upload: bool) -> Repository:
        """Where to push an image to, or pull it from."""
        raw = self._call(
            f"image {image_id}",
            lambda: self._client.image.http_request(
                f"images/{image_id}/repository",
                query={"upload": True} if upload else None,
                exceptions_for_status={404: theirs.BeakerImageNotFound(image_id)},
            ).json(),
        )
        login = raw["auth"]
        return Repository(raw["imageTag"], login["user"], login["password"], login["server_address"])

    def commit(self, image_id: str) -> None:
        """Make an image final, so that jobs can run in it; again is the same."""
        self._call(
            f"image {image_id}",
            lambda: self._client.image.http_request(
                f"images/{image_id}",
                method="PATCH",
                data={"commit": True},
                exceptions_for_status={404: theirs.BeakerImageNotFound(image_id)},
            ),
        )

    def get(self, image: str) -> Image:
        """Return an image by id or ``author/name``. BeakerNotFoundError."""
        return image_of(self._call(f"image {image}", lambda: self._client.image.get(image)))

    def find(self, name: str) -> Image | None:
        """Return our own image of a name (or ``author/name``), None where there is none."""
        whole = name if "/" in name else f"{self._account.user_name}/{name}"
        try:
            return self.get(whole)
        except BeakerNotFoundError:
            return None

    def search(self, text: str = "", *, own: bool = False) -> list[Image]:
        """Return the workspace's images whose name or description contains ``text``, by name."""
        found = self._call(f"images {text}", lambda: list(self._listed(text, own=own)))
        return [image_of(each) for each in found]

    def delete(self, image_ids: Sequence[str]) -> None:
        """Remove images; one that is gone is no error."""
        for each in image_ids:
            try:
                self._account.rpc(f"image {each}", "DeleteImages", pb2.DeleteImagesRequest(image_ids=[each]))
            except BeakerNotFoundError:
                continue

    def _listed(self, text: str, *, own: bool) -> Any:
        account = self._account
        return self._client.image.list(
            org=pb2.Organization(id=account.organization_id),
            author=pb2.User(id=account.user_id) if own else None,
            workspace=pb2.Workspace(id=account.workspace_id),
            name_or_description=text or None,
        )
