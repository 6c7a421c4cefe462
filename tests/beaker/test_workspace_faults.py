"""A workspace on a Beaker whose answers are late, lost, refused or damaged: in the end all is right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerError
from dispatch.beakerd.config import Config
from dispatch.errors import DispatchError
from dispatch.info import StepState
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_workspace import DONE, FAILED, complete, fill, record
from dispatch.workspace.base import StepCompletedError
from dispatch.workspace.beaker.aside import Aside
from dispatch.workspace.beaker.names import STEP
from dispatch.workspace.beaker.session import RENEW_EVERY
from dispatch.workspace.beaker.site import BeakerPorts
from dispatch.workspace.beaker.workspace import BeakerWorkspace

REST_KINDS = ("latency", "drop", "lose", "unavailable", "429", "500", "conflict", "truncate", "corrupt")
RPC_KINDS = ("latency", "drop", "lose", "unavailable", "429", "500", "reset", "wrong-digest")
KINDS = [*(f"rest {kind}" for kind in REST_KINDS), *(f"rpc {kind}" for kind in RPC_KINDS)]


@pytest.fixture(scope="module")
def workspaces(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeakerWorkspaces]:
    """One server for all tests, which goes wrong on demand."""
    root = tmp_path_factory.mktemp("faults")
    beakers = Beakers(root, tls=authority / "tls")
    beakers.prepare()
    yield BeakerWorkspaces(beakers.start(Config(control=True)), root)
    beakers.close()


@pytest.fixture
def faults(workspaces: BeakerWorkspaces) -> Iterator[Faults]:
    """The server's faults, none of which outlives the test."""
    made = Faults(workspaces.beaker)
    yield made
    made.clear()


@pytest.fixture
def clients(workspaces: BeakerWorkspaces) -> Iterator[tuple[BeakerWorkspace, BeakerWorkspace]]:
    """Two clients on different machines of an empty workspace."""
    name = workspaces.new()
    one, two = (workspaces.client(name, cache=f"{name}/{n}") for n in range(2))
    yield one, two
    for each in (one, two):
        each.close()


def big(text: str) -> str:
    """A result that is large enough to be cut anywhere."""
    return f'"{text * 2000}"\n'


@pytest.mark.parametrize("fault", KINDS)
def test_each_fault(faults: Faults, clients: tuple[BeakerWorkspace, BeakerWorkspace], fault: str) -> None:
    """Whichever requests it strikes, steps run once each, and another machine has their results."""
    protocol, _, kind = fault.partition(" ")
    # What is no JSON any more is not Beaker's answer, and said at once: of those only files are struck.
    on = "GET */files/*" if kind in ("corrupt", "truncate") else "*"
    seconds = 0.02 if kind == "latency" else 0
    rule = faults.add(f"{protocol}:{on}", kind, probability=0.2, seed=7, seconds=seconds)
    one, two = clients
    for name in ("a", "b", "c"):
        complete(one, record(name), text=big(name))
    one.fail(one.claim(record("bad"), "run"), record("bad"), FAILED)
    assert two.completed(["Made-a", "Made-b", "Made-c", "Made-bad"]) == {"Made-a", "Made-b", "Made-c"}
    for name in ("a", "b", "c"):
        assert two.step_cache[record(name)] == name * 2000
        with pytest.raises(StepCompletedError):
            two.claim(record(name), "run")
    assert two.step_info("Made-bad").state is StepState.FAILED
    two.remove_step("Made-a")
    assert one.completed(["Made-a", "Made-b"]) == {"Made-b"}
    assert faults.hits(rule) > 0
    faults.clear()
    assert one.site.door.datasets.search(STEP, committed=False) == []


def test_a_line_that_damages_all(faults: Faults, clients: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """It is said, and nothing is taken for a result, or for none."""
    one, two = clients
    complete(one, record(), text=big("x"))
    faults.add("rest:GET */files/manifest.json", "corrupt")
    with pytest.raises(BeakerError, match=r"manifest\.json"):
        two.locate("Made-one")
    with pytest.raises(BeakerError, match=r"manifest\.json"):
        two.claim(record(), "run")
    faults.clear()
    faults.add("rest:GET */files/result/*", "corrupt")
    assert two.completed(["Made-one"]) == {"Made-one"}
    with pytest.raises(DispatchError, match=r"data\.json"):
        two.step_cache[record()]
    faults.clear()
    assert two.step_cache[record()] == "x" * 2000


def test_an_upload_that_breaks_off(faults: Faults, clients: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """Half of a result is none; the attempt can be committed again, or failed, and the next one runs."""
    one, two = clients
    attempt = one.claim(record(), "run")
    for number in range(4):
        (attempt.result / f"{number}.bin").parent.mkdir(parents=True, exist_ok=True)
        (attempt.result / f"{number}.bin").write_bytes(bytes([number]) * 300_000)
    faults.add("rest:PUT */files/result/2.bin", "unavailable")
    one.site.door.account.call.patience = 1.0
    with pytest.raises(BeakerError):
        one.commit(attempt, record(), DONE)
    assert two.completed(["Made-one"]) == set()
    assert two.step_info("Made-one").state is StepState.RUNNING
    faults.clear()
    one.commit(attempt, record(), DONE)
    two.bring("Made-one")
    copy = two.copy_of("Made-one")
    assert copy is not None
    assert [(copy / f"{number}.bin").read_bytes()[:1] for number in range(4)] == [b"\0", b"\1", b"\2", b"\3"]


def test_renewing_waits_for_nobody(workspaces: BeakerWorkspaces, faults: Faults) -> None:
    """While Beaker is away whoever renews goes on; what was found is told once it answers."""
    now = [1000.0]
    ports = BeakerPorts(monotonic=lambda: now[0])
    client = workspaces.client(workspaces.new(), ports=ports)
    attempt = client.claim(record(), "run")
    datasets = client.site.door.datasets
    datasets.delete([dataset.id for dataset in datasets.search(STEP)])
    faults.add("rpc:*", "unavailable")
    now[0] += RENEW_EVERY
    aside = Aside(client._renew, 0.2)
    assert aside.ask() is None
    assert aside.ask() is None
    faults.clear()
    limit = time.monotonic() + 60
    while (found := aside.ask()) is None:
        assert time.monotonic() < limit
    assert [each.attempt for each in found] == [attempt]
    client.close()


def test_a_token_that_is_revoked(faults: Faults, clients: tuple[BeakerWorkspace, BeakerWorkspace]) -> None:
    """It is said with a remedy, and once there is a right one again the attempt goes on."""
    one, _ = clients
    attempt = one.claim(record(), "run")
    fill(attempt)
    faults.revoke("me")
    with pytest.raises(BeakerError) as caught:
        one.commit(attempt, record(), DONE)
    assert "BEAKER_TOKEN" in caught.value.remedy
    faults.give_back("me")
    assert one.commit(attempt, record(), DONE).state is StepState.COMPLETED
