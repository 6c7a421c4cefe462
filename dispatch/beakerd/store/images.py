"""Images: their names, who may see them, and those that the configuration names.

Owns the rows of images. An image of the configuration (source 'engine') is the engine's own, under a name of
the API's: everybody sees it, and nobody changes it. All others are seen by whoever may use their workspace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.access import Principal, digest, may_use
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Config, NameScope
from dispatch.beakerd.problems import forbidden, in_use, invalid, not_found
from dispatch.beakerd.store.database import Transaction

ENGINE, REGISTRY = "engine", "registry"
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}")
_SELECT = (
    "SELECT i.*, coalesce(nullif(i.namespace, ''), u.name) AS owner"
    " FROM images i JOIN users u ON u.id = i.author_id"
)
# Whether a caller may see the image ``i``; takes the values of :func:`caller`.
VISIBLE = (
    "(i.source = 'engine' OR (i.workspace_id = coalesce(?, i.workspace_id) AND EXISTS"
    " (SELECT 1 FROM workspaces w JOIN members m ON m.organization_id = w.organization_id"
    " WHERE w.id = i.workspace_id AND m.user_id = ?)))"
)


@dataclass(frozen=True)
class Image:
    """One image. ``owner`` stands before the slash of its full name. Times in nanoseconds; ``committed`` is
    None until its content is whole and fixed. ``docker_tag`` is the engine's reference of one that the
    configuration names."""

    id: str
    name: str
    owner: str
    author_id: str
    workspace_id: str
    budget_id: str | None
    description: str
    created: int
    committed: int | None
    docker_id: str
    docker_tag: str
    original_tag: str
    size: int
    source: str

    @property
    def full_name(self) -> str:
        """What users call it, or nothing where it has no name."""
        return f"{self.owner}/{self.name}" if self.name else ""


@dataclass(frozen=True)
class NewImage:
    """What an image is made of, before anything of its content is there."""

    author_id: str
    workspace_id: str
    name: str = ""
    budget_id: str | None = None
    description: str = ""
    docker_id: str = ""
    original_tag: str = ""


def caller(who: Principal) -> tuple[str | None, str]:
    """The values that :data:`VISIBLE` takes."""
    return who.workspace_id, who.user_id


def name_key(scope: NameScope, author: str, workspace: str, name: str) -> str | None:
    """What is unique of a name, None for no name.

    :raises Problem: INVALID, when it can be no name
    """
    if not name:
        return None
    if not _NAME.fullmatch(name):
        raise invalid(
            f"image name {name!r}: letters, digits, periods, dashes and underscores, and no dash at its start"
        )
    return f"{author if scope is NameScope.AUTHOR else workspace}/{name}"


def create(tx: Transaction, new: NewImage, scope: NameScope, image: str, now: int) -> None:
    """Make an image, not committed, under the id.

    :raises Problem: CONFLICT, when the name is taken; INVALID, when it is none
    """
    key = name_key(scope, new.author_id, new.workspace_id, new.name)
    _refuse_taken(tx, key, new.name)
    tx.execute(
        "INSERT INTO images (id, name, name_key, author_id, workspace_id, budget_id, description, created,"
        " docker_id, original_tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image,
            new.name,
            key,
            new.author_id,
            new.workspace_id,
            new.budget_id,
            new.description,
            now,
            new.docker_id,
            new.original_tag,
        ),
    )


def get(tx: Transaction, image: str) -> Image | None:
    """The image of an id, or None."""
    row = tx.execute(f"{_SELECT} WHERE i.id = ?", (image,)).fetchone()
    return None if row is None else _image(row)


def visible(tx: Transaction, who: Principal, image: str) -> Image:
    """The image of an id, for a caller who may see it.

    :raises Problem: NOT_FOUND or FORBIDDEN
    """
    found = get(tx, image)
    if found is None:
        raise not_found("image", image)
    if found.source != ENGINE and not may_use(tx, who, found.workspace_id):
        raise forbidden(f"image {image}: you have no access to its workspace")
    return found


def changeable(tx: Transaction, who: Principal, image: str) -> Image:
    """The image of an id, for a caller who may change it.

    :raises Problem: NOT_FOUND or FORBIDDEN
    """
    found = visible(tx, who, image)
    if found.source == ENGINE:
        raise forbidden(
            f"image {found.full_name}: it is of the server's configuration, and changes only there"
        )
    return found


def resolve(tx: Transaction, who: Principal, owner: str, name: str) -> str:
    """The id of ``owner/name``: of those that the caller may see, the newest (names of a workspace may occur
    in another one, too).

    :raises Problem: NOT_FOUND
    """
    row = tx.execute(
        f"SELECT i.id FROM images i JOIN users u ON u.id = i.author_id WHERE i.name = ?"
        f" AND coalesce(nullif(i.namespace, ''), u.name) = ? AND {VISIBLE} ORDER BY i.created DESC LIMIT 1",
        (name, owner, *caller(who)),
    ).fetchone()
    if row is None:
        raise not_found("image", f"{owner}/{name}")
    return str(row[0])


def find(tx: Transaction, who: Principal, text: str) -> Image:
    """The image that a spec names: ``owner/name``, an id, or the name of one of the caller's own.

    :raises Problem: NOT_FOUND or FORBIDDEN
    """
    owner, slash, name = text.partition("/")
    if slash:
        return visible(tx, who, resolve(tx, who, owner, name))
    if get(tx, text) is not None:
        return visible(tx, who, text)
    row = tx.execute("SELECT name FROM users WHERE id = ?", (who.user_id,)).fetchone()
    if row is None:
        raise not_found("image", text)
    return visible(tx, who, resolve(tx, who, row[0], text))


def rename(tx: Transaction, image: Image, name: str, scope: NameScope) -> None:
    """Give an image another name.

    :raises Problem: CONFLICT, when it is taken; INVALID, when it is none
    """
    if name == image.name:
        return
    key = name_key(scope, image.author_id, image.workspace_id, name)
    _refuse_taken(tx, key, name)
    tx.execute("UPDATE images SET name = ?, name_key = ? WHERE id = ?", (name, key, image.id))


def describe(tx: Transaction, image: str, description: str) -> None:
    """Change what is said of an image."""
    tx.execute("UPDATE images SET description = ? WHERE id = ?", (description, image))


def commit(tx: Transaction, image: str, docker_id: str, size: int, now: int) -> None:
    """Fix an image as it is: from now on its content stays."""
    tx.execute(
        "UPDATE images SET committed = ?, docker_id = ?, size = ? WHERE id = ? AND committed IS NULL",
        (now, docker_id, size, image),
    )


def remove(tx: Transaction, image: str) -> None:
    """Remove an image, its repository and its tokens; its name is free again."""
    tx.execute("DELETE FROM tokens WHERE kind = 'registry' AND subject = ?", (image,))
    tx.execute("DELETE FROM images WHERE id = ?", (image,))


def forget_ended_tokens(tx: Transaction, now: int) -> None:
    """Remove the registry's tokens whose time is over."""
    tx.execute("DELETE FROM tokens WHERE kind = 'registry' AND expires < ?", (now,))


def forget_token(tx: Transaction, token: str) -> None:
    """End a registry's token."""
    tx.execute("DELETE FROM tokens WHERE kind = 'registry' AND hash = ?", (digest(token),))


def select(tx: Transaction, who: Principal, where: str, values: Sequence[Any], order: str) -> list[Image]:
    """Those images that the caller may see and a condition holds for, both it and ``order`` in SQL over
    ``i`` and never from a request."""
    rows = tx.execute(f"{_SELECT} WHERE {VISIBLE} AND {where} {order}", (*caller(who), *values))
    return [_image(row) for row in rows.fetchall()]


def seed(tx: Transaction, config: Config, clock: Clock, ids: Ids) -> list[str]:
    """Make the images that the configuration names, drop those that it names no longer, and return what
    there is to say of it. Ids stay.

    The author of ``name/…`` is the user of that name, else the first user of the organization, else the
    first user at all: names such as ``beaker-py`` are nobody's here.
    """
    said = []
    workspace = tx.execute("SELECT id FROM workspaces ORDER BY created, id LIMIT 1").fetchone()[0]
    kept = []
    for full_name, reference in config.images.items():
        owner, _, name = full_name.rpartition("/")
        author, namespace = _author(tx, owner)
        key = f"{ENGINE}:{owner}/{name}" if namespace else f"{author}/{name}"
        taken = tx.execute("SELECT source FROM images WHERE name_key = ?", (key,)).fetchone()
        if taken is not None and taken[0] != ENGINE:
            said.append(f"image {full_name}: a user has one of this name; that of the configuration waits")
            continue
        now = clock.now()
        tx.execute(
            "INSERT INTO images (id, name, name_key, author_id, workspace_id, description, created,"
            " committed, docker_tag, original_tag, source, namespace)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name_key) DO UPDATE SET docker_tag = excluded.docker_tag,"
            " original_tag = excluded.original_tag, author_id = excluded.author_id",
            (
                ids.new(),
                name,
                key,
                author,
                workspace,
                f"{reference} of the local engine",
                now,
                now,
                reference,
                reference,
                ENGINE,
                namespace,
            ),
        )
        kept.append(key)
    marks = ", ".join("?" * len(kept))
    tx.execute(f"DELETE FROM images WHERE source = ? AND name_key NOT IN ({marks})", (ENGINE, *kept))
    return said


def _author(tx: Transaction, owner: str) -> tuple[str, str]:
    """A user for what stands before the slash, and the namespace where that is not the user's name."""
    row = tx.execute("SELECT id FROM users WHERE name = ?", (owner,)).fetchone()
    if row is not None:
        return str(row[0]), ""
    row = tx.execute(
        "SELECT u.id FROM users u JOIN members m ON m.user_id = u.id"
        " JOIN organizations o ON o.id = m.organization_id WHERE o.name = ? ORDER BY u.created, u.id LIMIT 1",
        (owner,),
    ).fetchone()
    if row is None:
        row = tx.execute("SELECT id FROM users ORDER BY created, id LIMIT 1").fetchone()
    return str(row[0]), owner


def _refuse_taken(tx: Transaction, key: str | None, name: str) -> None:
    if key is not None and tx.execute("SELECT 1 FROM images WHERE name_key = ?", (key,)).fetchone():
        raise in_use("image", name)


def _image(row: Any) -> Image:
    return Image(**{name: row[name] for name in Image.__dataclass_fields__})
