"""Our own door to a local Beaker, for tests: as a user of its configuration, told where it is."""

from __future__ import annotations

from dispatch._beaker import BeakerDoor
from dispatch.testing.beaker import BeakerProcess, LocalBeaker

PATIENCE = 30.0


def door_of(
    beaker: LocalBeaker | BeakerProcess,
    user: str = "me",
    workspace: str | None = "ai2/my-workspace",
    patience: float = PATIENCE,
) -> BeakerDoor:
    """A door of a user's own. Close it. The roots that gRPC trusts are the test session's to set."""
    return BeakerDoor(workspace, options_of(beaker, user), patience=patience)


def options_of(beaker: LocalBeaker | BeakerProcess, user: str = "me") -> dict[str, str]:
    """What ``Beaker.from_env`` is to be told to be this user."""
    scheme = "https" if beaker.endpoint.rest_tls else "http"
    return {
        "user_token": beaker.token(user),
        "agent_address": f"{scheme}://{beaker.endpoint.rest}",
        "rpc_address": beaker.endpoint.rpc,
    }
