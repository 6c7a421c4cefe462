"""Beaker against the contract of ``dispatch.engine.base``, with real containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, Config, NameScope
from dispatch.engine.base import Engine, JobSpec, Reason
from dispatch.environment import RegistryDigest
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_engine import BeakerLab
from dispatch.testing.contracts_engine import FAILURE, Behaviour, EngineContract, EngineLab

COMMANDS = {
    Behaviour.GREETS: "echo hello",
    Behaviour.FAILS: f"echo hello; exit {FAILURE}",
    Behaviour.HANGS: "trap 'exit 143' TERM; echo hello; sleep 3600 & wait",
    Behaviour.STUBBORN: "trap '' TERM; echo hello; while :; do sleep 1; done",
    Behaviour.GHOST: "true",
}


class _Lab:
    refusal = Reason.IMAGE

    def __init__(self, lab: BeakerLab) -> None:
        self._lab = lab
        self.engine: Engine = lab.engine

    def job(self, key: str, behaviour: Behaviour) -> JobSpec:
        more = {"image": RegistryDigest("no.such/image:1")} if behaviour is Behaviour.GHOST else {}
        return self._lab.job(key, COMMANDS[behaviour], **more)

    def again(self) -> Engine:
        return self._lab.again()


@pytest.fixture(params=NameScope, scope="module")
def server(
    authority: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[LocalBeaker]:
    """One server for all of the contract, at either scope of names."""
    beakers = Beakers(tmp_path_factory.mktemp("beaker"), tls=authority / "tls")
    beakers.prepare()
    yield beakers.start(Config(assume=Assumptions(grace=1.0, names=request.param)))
    beakers.close()


@pytest.mark.engine
class TestBeakerEngine(EngineContract):
    """A Beaker keeps to the contract, whatever its names are unique in."""

    @pytest.fixture
    def lab(self, server: LocalBeaker, tmp_path: Path, busybox_image: ImageRecord) -> Iterator[EngineLab]:
        """Jobs in busybox."""
        assert busybox_image
        lab = BeakerLab(server, tmp_path)
        yield _Lab(lab)
        lab.close()
