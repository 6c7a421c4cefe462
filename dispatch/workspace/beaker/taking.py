"""Names on Beaker as locks: of several clients who make a dataset of one name, one gets it.

Beaker refuses a name that is taken, but a server may ask for names that are unique for each author only: then
two authors can make theirs at once. Both look afterwards, and the dataset with the lowest id stays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerConflictError, BeakerDeniedError

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor, CreatedDataset, Dataset
    from dispatch.workspace.beaker.site import Site

_CHANCE = 6
_SHORT = 7


def scope(site: Site) -> str:
    """Return the part of a name that tells our workspace from others of the same author; never a number."""
    return "w" + hashlib.sha256(site.door.account.workspace_id.encode()).hexdigest()[:_SHORT]


def told(dataset: Dataset) -> dict[str, Any]:
    """Return what a dataset's description says; nothing where it is not ours."""
    try:
        data = json.loads(dataset.description)
    except ValueError:
        return {}
    return data if isinstance(data, dict) and "dispatch" in data else {}


def is_held(site: Site, dataset: Dataset) -> bool:
    """Say whether somebody alive is at work on a dataset, for all we know. Asking is watching."""
    if dataset.committed:
        return False
    said = told(dataset)
    return site.session.is_alive(str(said.get("session", "")), said)


def take(site: Site, name: str, about: Mapping[str, Any]) -> CreatedDataset | None:
    """Make the dataset of a name in our session; None where somebody has it, dead or alive.

    ``about`` is told in its description. What a dead one of another author left under the name is deleted, so
    that it cannot come back.
    """
    # One of a kind, so that a repeated call can tell ours from another's.
    description = json.dumps({**site.session.describe(), **about, "mark": os.urandom(_CHANCE).hex()})
    try:
        made = site.door.datasets.create(name, description)
    except BeakerConflictError:
        return None
    ours = made.dataset
    earlier = [each for each in site.door.datasets.search(name) if each.name == name and each.id < ours.id]
    if any(each.committed or is_held(site, each) for each in earlier):
        site.door.datasets.delete([ours.id])
        return None
    discard(site.door, earlier)
    return made


def discard(door: BeakerDoor, datasets: Iterable[Dataset]) -> None:
    """Delete datasets; what is another author's, and not ours to delete, stays."""
    for dataset in datasets:
        try:
            door.datasets.delete([dataset.id])
        except BeakerDeniedError:
            continue
