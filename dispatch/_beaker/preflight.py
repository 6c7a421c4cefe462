"""Before the first call: whether Beaker is there, lets us in, and has what a run names, within one deadline.

Owns which mistakes are told apart here: a wrong address, a certificate, a token, a workspace, a cluster, an
image, a priority or a budget. What comes out is an error with its remedy, or nothing. Refuses to wait: who
asks has not begun anything that could be lost.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from beaker import beaker_pb2 as pb2
from beaker.types import BeakerJobPriority

from dispatch._beaker.client import REMEDY
from dispatch._beaker.door import BeakerDoor
from dispatch._beaker.problems import BeakerError, BeakerNotFoundError, BeakerUnreachableError
from dispatch.errors import ConfigurationError, did_you_mean

SECONDS = 10.0
# For who refuses or breaks off at once: long enough for a server that is just being restarted.
PATIENCE = 3.0
ADDRESS = (
    "see that this is Beaker's address (BEAKER_ADDR, or agent_address and rpc_address in its configuration),"
    " that it is up and the network lets you there; for a local one: `dispatch beaker up`"
)
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Needs:
    """What a run will name: clusters, an image of Beaker's, a budget, the highest priority, the most GPUs.

    ``jobs``: it submits jobs, which somebody has to pay for.
    """

    clusters: tuple[str, ...] = ()
    image: str | None = None
    budget: str | None = None
    priority: str | None = None
    gpus: int = 0
    jobs: bool = False


def preflight(door: BeakerDoor, needs: Needs | None = None, seconds: float = SECONDS) -> None:
    """Hold that calls through the door will be answered, and that all that a run needs is there.

    :raises ConfigurationError: what was written (address, workspace, cluster, image, …) is not so
    :raises BeakerUnreachableError: nobody answers in time; BeakerUntrustedError: somebody else does
    :raises BeakerDeniedError: the token opens nothing
    """
    needs = needs or Needs()
    _check_addresses(door)
    with _within(door, seconds):
        _check_token(door)
        _check_workspace(door)
        with _answering(door.address):
            _check_rest(door)
        _check_clusters(door, needs.clusters)
        if needs.image is not None:
            _check_image(door, needs.image)
        if needs.jobs:
            _check_account(door, needs)


def reachable(door: BeakerDoor, seconds: float = SECONDS) -> None:
    """Hold that Beaker answers and lets us in: the first of it, for what needs no workspace.

    Costs nothing once it has answered. Errors are those of :func:`preflight`.
    """
    if door.account.has_answered:
        return
    _check_addresses(door)
    with _within(door, seconds):
        _check_token(door)


@contextmanager
def _within(door: BeakerDoor, seconds: float) -> Iterator[None]:
    limit = door.account.client.limit
    limit.until, limit.patience = limit.clock() + seconds, PATIENCE
    try:
        yield
    finally:
        limit.until = limit.patience = None


def _check_token(door: BeakerDoor) -> None:
    with _answering(str(door.account.client.config.rpc_address)):
        door.account.user_id  # noqa: B018


@contextmanager
def _answering(address: str) -> Iterator[None]:
    try:
        yield
    except BeakerUnreachableError as error:
        if type(error) is not BeakerUnreachableError:
            raise
        fact = error.message.rpartition("does not answer: ")[2]
        raise BeakerUnreachableError(f"Beaker at {address} does not answer: {fact}", ADDRESS) from error


def _check_addresses(door: BeakerDoor) -> None:
    config = door.account.client.config
    address = urlsplit(config.agent_address)
    if address.scheme not in ("http", "https") or not _AUTHORITY.fullmatch(address.netloc):
        raise ConfigurationError(
            f"Beaker's address {config.agent_address!r} is no http:// or https:// address", REMEDY
        )
    if not _AUTHORITY.fullmatch(config.rpc_address):
        raise ConfigurationError(f"Beaker's rpc_address {config.rpc_address!r} is not HOST:PORT", REMEDY)


def _check_rest(door: BeakerDoor) -> None:
    """Ask for what cannot be there: that it is not says that files would be answered for, too."""
    service = door.account.client.dataset
    try:
        door.account.call(
            "files",
            lambda: service.http_request("datasets/0", exceptions_for_status={404: FileNotFoundError("0")}),
        )
    except BeakerNotFoundError:
        return


def _check_workspace(door: BeakerDoor) -> None:
    account = door.account
    try:
        account.workspace_id  # noqa: B018
    except BeakerNotFoundError as error:
        named = error.message.removesuffix(": is not on Beaker")
        raise ConfigurationError(
            f"{named}: is not on Beaker, or {account.user_name} may not see it",
            "see its name (ORG/NAME), or make it there",
        ) from error
    if account.workspace_raw.archived:
        raise ConfigurationError(
            f"workspace {account.workspace_name}: is archived", "name another, or have it restored"
        )


def _check_clusters(door: BeakerDoor, names: Sequence[str]) -> None:
    for name in names:
        try:
            door.clusters.get(name)
        except BeakerNotFoundError as error:
            known = _clusters(door)
            raise ConfigurationError(
                f"cluster {name}: is not on Beaker{did_you_mean(name, known)}",
                f"there are {', '.join(known)}" if known else "ask which clusters you may use",
            ) from error


def _clusters(door: BeakerDoor) -> list[str]:
    account, options = door.account, pb2.ListClustersRequest.Opts
    request = pb2.ListClustersRequest(options=options(organization_id=account.organization_id, page_size=50))
    try:
        page = account.rpc("clusters", "ListClusters", request)
    except BeakerError:
        return []
    return sorted(f"{each.organization_name}/{each.name}" for each in page.clusters)


def _check_image(door: BeakerDoor, name: str) -> None:
    try:
        image = door.images.get(name)
    except BeakerNotFoundError as error:
        raise ConfigurationError(
            f"image {name}: is not on Beaker", "name one as AUTHOR/NAME or by id, or publish it first"
        ) from error
    if not image.committed:
        raise ConfigurationError(
            f"image {name}: is not complete: it was never committed", "delete it there, and publish it again"
        )


def _check_account(door: BeakerDoor, needs: Needs) -> None:
    account = door.account
    raw, name = account.workspace_raw, account.workspace_name
    if needs.budget is not None:
        _check_budget(door, needs.budget)
    elif not raw.budget_id:
        raise ConfigurationError(f"workspace {name}: has no budget for jobs", "name one: `budget: ORG/NAME`")
    most = raw.maximum_workload_priority
    if needs.priority is not None and most and _priority(needs.priority) > most:
        raise ConfigurationError(
            f"priority {needs.priority!r}: workspace {name} allows {BeakerJobPriority(most).name} at most",
            f"use `priority: {BeakerJobPriority(most).name}`, or another workspace",
        )
    limits = (raw.slot_limit_preemptible, raw.slot_limit_non_preemptible)
    if all(limits) and needs.gpus > max(limits):
        raise ConfigurationError(
            f"{needs.gpus} GPUs: workspace {name} may use {max(limits)} at most",
            "ask for fewer, or use another workspace",
        )


def _priority(name: str) -> int:
    known = {each.name: int(each) for each in BeakerJobPriority}
    if name not in known:
        raise ConfigurationError(
            f"priority {name!r}: is not known{did_you_mean(name, [*known])}", f"use one of {', '.join(known)}"
        )
    return known[name]


def _check_budget(door: BeakerDoor, name: str) -> None:
    account = door.account
    organization, _, short = name.rpartition("/")
    if not organization:
        # A bare word is an id.
        request: Any = pb2.GetBudgetRequest(budget_id=name)
        method = "GetBudget"
    else:
        request = pb2.ResolveBudgetNameRequest(organization_name=organization, budget_name=short)
        method = "ResolveBudgetName"
    try:
        account.rpc(f"budget {name}", method, request)
    except BeakerNotFoundError as error:
        raise ConfigurationError(
            f"budget {name}: is not on Beaker, or {account.user_name} may not use it", "name another"
        ) from error
