"""The engines against the contract of ``dispatch.engine.base``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch import payload
from dispatch._docker import Address, Door, ImageRecord
from dispatch.engine.base import Engine, JobSpec, Mount, Network, Reason
from dispatch.engine.docker import DockerEngine
from dispatch.engine.process import ProcessEngine, StartMethod
from dispatch.environment import LocalId
from dispatch.location import HostPath
from dispatch.testing.contracts_engine import FAILURE, GREETING, Behaviour, EngineContract, EngineLab
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.far import FarEngine, Relay, far_engine

COMMANDS = {
    Behaviour.GREETS: "echo hello",
    Behaviour.FAILS: f"echo hello; exit {FAILURE}",
    Behaviour.HANGS: "trap 'exit 143' TERM; echo hello; sleep 3600 & wait",
    Behaviour.STUBBORN: "trap '' TERM; echo hello; sleep 3600",
    Behaviour.GHOST: "true",
}
NO_IMAGE = f"sha256:{'0' * 64}"
OUTCOMES = {
    Behaviour.GREETS: Outcome(log=GREETING),
    Behaviour.FAILS: Outcome(exit_code=FAILURE, log=GREETING),
    Behaviour.HANGS: Outcome(holds=True, log=GREETING),
    Behaviour.STUBBORN: Outcome(holds=True, stubborn=True, log=GREETING),
    Behaviour.GHOST: Outcome(exit_code=None, reason=Reason.IMAGE, message="no such image"),
}


def _job(directory: Path, key: str, behaviour: Behaviour, image: str | None) -> JobSpec:
    ghost = behaviour is Behaviour.GHOST
    attempt = directory / key
    output = attempt / "output"
    output.mkdir(parents=True, exist_ok=True)
    return JobSpec(
        key=key,
        run="contract",
        step=behaviour.name.lower(),
        attempt=1,
        image=None if image is None else LocalId(NO_IMAGE if ghost else image),
        command=("/bin/sh" if image or not ghost else "/bin/ghost", "-c", COMMANDS[behaviour]),
        attempt_dir=attempt,
        mounts=(Mount(HostPath(output), "/dispatch/output", read_only=False),),
        working_dir="/",
        network=Network.NONE,
    )


class _FakeLab:
    refusal = Reason.IMAGE

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.engine: Engine = FakeEngine(lambda job: OUTCOMES[Behaviour[job.step.upper()]])

    def job(self, key: str, behaviour: Behaviour) -> JobSpec:
        return _job(self._directory, key, behaviour, "fake")

    def again(self) -> Engine:
        return self.engine


class _DockerLab:
    """Runs of the contract are told apart by the test's directory: tests may share an engine."""

    refusal = Reason.IMAGE

    def __init__(self, directory: Path, door: Door, image: ImageRecord) -> None:
        self._directory = directory
        self._door = door
        self._image = image
        self._engines: list[DockerEngine] = []
        self.engine: Engine = self.again()

    def job(self, key: str, behaviour: Behaviour) -> JobSpec:
        return _job(self._directory, key, behaviour, self._image.id)

    def again(self) -> Engine:
        engine = DockerEngine(self._door, uid=os.geteuid(), gid=os.getegid())
        self._engines.append(engine)
        return engine

    def clean(self) -> None:
        for engine in self._engines:
            engine.close()
        for handle in DockerEngine(self._door, uid=0, gid=0).find("contract"):
            # Others may test the same engine at the same time.
            name = self._directory / handle.key / "container"
            if name.exists() and name.read_text() == handle.engine_id:
                self._door.containers.remove(handle.engine_id)


class _ProcessLab:
    """There can be no other client of an engine whose jobs end with it."""

    refusal = Reason.INFRA

    def __init__(self, directory: Path, start_method: StartMethod) -> None:
        self._directory = directory
        runtime = payload.provide(directory / "cache").directory
        self.engine: Engine = ProcessEngine(sys.executable, runtime, {"PATH": os.defpath}, start_method)

    def job(self, key: str, behaviour: Behaviour) -> JobSpec:
        return _job(self._directory, key, behaviour, None)

    def again(self) -> Engine:
        return self.engine


class TestFakeEngine(EngineContract):
    """The fake keeps to the contract, so what is tested with it holds for the others."""

    @pytest.fixture
    def lab(self, tmp_path: Path) -> EngineLab:
        """A fake engine whose script knows the contract's behaviours."""
        return _FakeLab(tmp_path)


class TestProcessEngine(EngineContract):
    """Processes of this machine keep to the contract, however they are started."""

    @pytest.fixture(params=StartMethod)
    def lab(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EngineLab]:
        """An engine of this interpreter."""
        lab = _ProcessLab(tmp_path, request.param)
        yield lab
        lab.engine.close()


@pytest.fixture(scope="module")
def far() -> Iterator[FarEngine]:
    """An engine that does not see our files."""
    with far_engine(os.environ) as far:
        yield far


@pytest.fixture(scope="module")
def far_door(far: FarEngine) -> Iterator[Door]:
    """The way to it over TCP."""
    relay = Relay(far.socket)
    door = Door(Address(f"tcp://127.0.0.1:{relay.port}", chosen=True), far.hidden)
    yield door
    door.close()
    relay.close()


@pytest.mark.engine
class TestFarDockerEngine(EngineContract):
    """A Docker Engine that does not see our files, and is reached over TCP, keeps to it as well."""

    @pytest.fixture
    def lab(
        self, tmp_path: Path, far: FarEngine, far_door: Door, load_busybox: Callable[[Door], ImageRecord]
    ) -> Iterator[EngineLab]:
        """Jobs in a directory that is another one for the engine."""
        directory = far.hidden / tmp_path.name
        directory.mkdir()
        lab = _DockerLab(directory, far_door, load_busybox(far_door))
        assert far_door.sight.obstacle([directory])
        yield lab
        lab.clean()


@pytest.mark.engine
class TestDockerEngine(EngineContract):
    """A Docker Engine keeps to the contract."""

    @pytest.fixture
    def lab(self, tmp_path: Path, door: Door, busybox_image: ImageRecord) -> Iterator[EngineLab]:
        """The user's own engine with jobs in busybox."""
        lab = _DockerLab(tmp_path, door, busybox_image)
        yield lab
        lab.clean()
