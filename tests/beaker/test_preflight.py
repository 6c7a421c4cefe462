"""What is wrong is said before the first call, by its name, and within seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import (
    BeakerDeniedError,
    BeakerDoor,
    BeakerUnreachableError,
    BeakerUntrustedError,
)
from dispatch._beaker.preflight import Needs, preflight
from dispatch.beakerd.config import Config, WorkspaceConfig
from dispatch.errors import ConfigurationError
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.beaker_faults import Faults

SECONDS = 6.0
# A machine with much to do is given time; a client that waits for ever is not.
LIMIT = 30.0


@contextmanager
def door_with(**options: str) -> Iterator[BeakerDoor]:
    """A door to somewhere, with options of its own."""
    door = BeakerDoor("ai2/my-workspace", options)
    yield door
    door.close()


@contextmanager
def listening() -> Iterator[str]:
    """An address where somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_all_is_well(beaker: LocalBeaker) -> None:
    """Nothing is said, also of what a run names; calls afterwards have their usual time again."""
    door = door_of(beaker)
    preflight(door)
    preflight(
        door, Needs(clusters=("ai2/general-cirrascale",), budget="ai2/default", priority="high", jobs=True)
    )
    assert door.account.client.limit.left(5.0) == 5.0
    door.close()


@pytest.mark.parametrize("somewhere", [listening, closed])
@pytest.mark.parametrize("part", ["rpc_address", "agent_address"])
def test_who_does_not_answer_is_named(beaker: LocalBeaker, somewhere: Callable[[], Any], part: str) -> None:
    """Within the deadline, be it that nobody is there, or somebody who is silent."""
    with somewhere() as place:
        address = place if part == "rpc_address" else f"http://{place}"
        began = time.monotonic()
        with (
            door_with(**{**options_of(beaker), part: address}) as door,
            pytest.raises(BeakerUnreachableError, match=f"Beaker at {address} does not answer") as caught,
        ):
            preflight(door, seconds=SECONDS)
        assert time.monotonic() - began < LIMIT
    assert "BEAKER_ADDR" in caught.value.remedy
    assert caught.value.message.count("\n") == 0


def test_a_host_without_an_address_is_named(beaker: LocalBeaker) -> None:
    """The name that cannot be resolved is in the message."""
    with (
        door_with(**{**options_of(beaker), "rpc_address": "no.such.invalid:443"}) as door,
        pytest.raises(BeakerUnreachableError, match=r"no\.such\.invalid"),
    ):
        preflight(door, seconds=SECONDS)


def test_a_certificate_of_somebody_else_is_no_beaker(authority: Path, tmp_path: Path) -> None:
    """Nothing is repeated, and the remedy says how authorities are named; no token goes there."""
    others = Beakers(tmp_path / "others")
    others.prepare()
    assert others.authority != authority / "tls" / "ca.pem"
    strange = others.start(Config(rest_tls=True))
    try:
        began = time.monotonic()
        with door_with(**options_of(strange)) as door, pytest.raises(BeakerUntrustedError) as caught:
            preflight(door, seconds=SECONDS)
        assert time.monotonic() - began < LIMIT
        assert "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in caught.value.remedy
    finally:
        others.close()


def test_rest_is_held_to_its_certificate_too(beakers: Beakers) -> None:
    """The two ways to the server are checked each by itself."""
    running = beakers.start(Config(rest_tls=True))
    with _closing(door_of(running)) as door, pytest.raises(BeakerUntrustedError, match="files"):
        preflight(door, seconds=SECONDS)


@contextmanager
def _closing(door: BeakerDoor) -> Iterator[BeakerDoor]:
    yield door
    door.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent_address": "beaker.org"}, "'beaker.org' is no http"),
        ({"agent_address": "http://"}, "is no http"),
        ({"rpc_address": "https://beaker.org"}, "is not HOST:PORT"),
        ({"rpc_address": ""}, "is not HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_a_mistake_of_the_configuration(
    beaker: LocalBeaker, options: dict[str, str], message: str
) -> None:
    """It is said without asking anybody."""
    with (
        door_with(**{**options_of(beaker), **options}) as door,
        pytest.raises(ConfigurationError, match=message),
    ):
        preflight(door)


def test_a_token_that_opens_nothing_is_said(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """A wrong one, and one that was revoked; neither is in the message."""
    running = beaker_of(Config(control=True))
    good = options_of(running)
    with (
        door_with(**{**good, "user_token": "wrong-token"}) as door,
        pytest.raises(BeakerDeniedError) as caught,
    ):
        preflight(door, seconds=SECONDS)
    assert "wrong-token" not in caught.value.message + caught.value.remedy
    assert "BEAKER_TOKEN" in caught.value.remedy
    Faults(running).revoke("me")
    with door_with(**good) as door, pytest.raises(BeakerDeniedError):
        preflight(door, seconds=SECONDS)


WORKSPACES = (WorkspaceConfig("ai2/my-workspace", "ai2/default", maximum_priority="normal"),)


@pytest.mark.parametrize(
    ("needs", "message", "remedy"),
    [
        (
            Needs(clusters=("ai2/general-cirrascale", "ai2/general-cirascale")),
            "cluster ai2/general-cirascale: .* did you mean 'ai2/general-cirrascale'",
            "there are ai2/general-cirrascale",
        ),
        (Needs(image="me/nothing"), "image me/nothing: is not on Beaker", "publish"),
        (Needs(image="me/half"), "image me/half: is not complete", "publish it again"),
        (Needs(jobs=True, budget="ai2/none"), "budget ai2/none: is not on Beaker", "name another"),
        (Needs(jobs=True, budget="none"), "budget none: is not on Beaker", "name another"),
        (
            Needs(jobs=True, priority="urgent"),
            "priority 'urgent': .* allows normal at most",
            "priority: normal",
        ),
        (Needs(jobs=True, priority="norml"), "did you mean 'normal'", "low, normal"),
    ],
)
def test_what_a_run_names_is_there(
    beaker_of: Callable[[Config], LocalBeaker], needs: Needs, message: str, remedy: str
) -> None:
    """What is not, is named, and what could be meant."""
    running = beaker_of(Config(workspaces=WORKSPACES))
    with _closing(door_of(running)) as door:
        door.images.create("half", "sha256:" + "0" * 64, "half", "")
        with pytest.raises(ConfigurationError, match=message) as caught:
            preflight(door, needs, seconds=SECONDS)
        assert remedy in caught.value.remedy


def test_a_workspace_is_there_and_open(beaker: LocalBeaker) -> None:
    """A name that nobody has, and one that was archived."""
    missing = "workspace ai2/other: is not on Beaker, or me may not"
    with (
        _closing(door_of(beaker, workspace="ai2/other")) as door,
        pytest.raises(ConfigurationError, match=missing),
    ):
        preflight(door, seconds=SECONDS)
    with beaker.client() as client:
        client.workspace.update(client.workspace.get("ai2/my-workspace"), archived=True)
    with _closing(door_of(beaker)) as door, pytest.raises(ConfigurationError, match="is archived"):
        preflight(door, seconds=SECONDS)


def test_a_server_that_answers_after_a_moment_is_there(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """A few refusals, as of one that is being restarted, are no error."""
    running = beaker_of(Config(control=True))
    faults = Faults(running)
    fault = faults.add("rpc:GetUser", "unavailable", times=3)
    with _closing(door_of(running)) as door:
        preflight(door, seconds=SECONDS)
        assert door.account.user_name == "me"
    assert faults.hits(fault) == 3


def test_other_threads_have_the_time_that_they_have(beaker: LocalBeaker) -> None:
    """A preflight in the middle of a run hurries nobody but itself."""
    door = door_of(beaker)
    limit = door.account.client.limit
    limit.until = limit.clock()
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.append(limit.left(5.0)))
    thread.start()
    thread.join()
    assert seen == [5.0]
    assert limit.left(5.0) <= 0
    door.close()


STRANGER = """
import sys
from dispatch._beaker import BeakerDoor, BeakerUntrustedError
from dispatch._beaker.preflight import preflight
try:
    preflight(BeakerDoor("ai2/my-workspace", {"user_token": "x", "rpc_address": sys.argv[1]}), seconds=6.0)
except BeakerUntrustedError:
    print("untrusted")
"""


def test_the_library_says_nothing_by_itself(beaker: LocalBeaker) -> None:
    """A handshake that failed is told by our error alone, and children find no variable of ours."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, beaker.endpoint.rpc], env=environ, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("untrusted\n", "")
    code = "import subprocess, dispatch._beaker; subprocess.run(['env'])"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert "PATH=" in done.stdout
    assert "GRPC" not in done.stdout


ALONE = """
from dispatch._beaker import BeakerDoor
from dispatch._beaker.preflight import preflight
from dispatch.errors import ConfigurationError
try:
    preflight(BeakerDoor("ai2/my-workspace"))
except ConfigurationError as error:
    print(error.message, error.remedy, sep="\\n")
"""


def test_nobody_is_asked_without_a_token(tmp_path: Path) -> None:
    """Where there is neither a configuration nor a variable, that is what is said, and how to log in."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environ, capture_output=True, text=True)
    message, remedy = done.stdout.splitlines()
    assert message.startswith("Beaker: ")
    assert "BEAKER_TOKEN" in remedy
    assert done.stderr == ""
