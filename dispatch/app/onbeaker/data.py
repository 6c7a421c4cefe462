"""What the settings want in every job on Beaker: its data, found there by name, and secrets as variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatch._beaker import (
    BeakerDoor,
    BeakerNotFoundError,
    DatasetMount,
    HostMount,
    SecretMount,
    TaskMount,
    WekaMount,
)
from dispatch.engine.beaker import Extras
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.beakerdata import DataMount

if TYPE_CHECKING:
    from dispatch.settings.beaker import BeakerSetup


def extras_of(setup: BeakerSetup, door: BeakerDoor) -> Extras:
    """Return what every job gets. A dataset is named by its id from here on, whoever renames it.

    :raises ConfigurationError: for a dataset or a secret that is not there, or not complete
    """
    named = {each.name for each in setup.datasets if each.source == "secret"}
    variables = {each.name: each.secret for each in setup.env_vars if each.secret is not None}
    _check_secrets([*named, *variables.values()], door)
    return Extras(
        mounts=tuple(_mount(each, door) for each in setup.datasets),
        secret_env=variables,
    )


def _mount(each: DataMount, door: BeakerDoor) -> TaskMount:
    if each.source == "host_path":
        path = f"{each.name.rstrip('/')}/{each.sub_path}" if each.sub_path else each.name
        return HostMount(path, each.mount_path)
    if each.source == "weka":
        return WekaMount(each.name, each.mount_path, each.sub_path)
    if each.source == "secret":
        return SecretMount(each.name, each.mount_path)
    return DatasetMount(_dataset(each.name, door), each.mount_path, each.sub_path)


def _dataset(name: str, door: BeakerDoor) -> str:
    try:
        found = door.datasets.get(name)
    except BeakerNotFoundError as error:
        raise ConfigurationError(
            f"datasets: {name}: is not on Beaker, or {door.account.user_name} may not see it",
            "name one as AUTHOR/NAME or by id",
        ) from error
    if not found.committed:
        raise ConfigurationError(
            f"datasets: {name}: is not complete: it was never committed", "commit it, or name another"
        )
    return found.id


def _check_secrets(names: Sequence[str], door: BeakerDoor) -> None:
    there = door.secrets.names() if names else []
    for name in names:
        if name not in there:
            raise ConfigurationError(
                f"secret {name}: is not in the workspace {door.account.workspace_name}",
                f"write it there, or correct its name{did_you_mean(name, there)}",
            )
