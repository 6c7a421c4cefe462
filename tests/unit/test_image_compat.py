"""What is refused for a driver that is too old for it, and when: by locks and names, before any download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.environment import CondaImage, DockerImage, Environment, Extras, PipImage, TargetProfile
from dispatch.errors import ConfigurationError
from dispatch.image.compat import gpu_env, refuse_base_cuda, refuse_locked_cuda
from dispatch.image.plan import Generated, plan_images
from dispatch.lock import cuda
from dispatch.lock.model import CondaLock, CondaPackage, PipLock, PipPin, Target
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import FakeImageStore

HASHES = ("sha256:" + "0" * 64,)


def locked(*pins: str) -> PipLock:
    """A lock of ``name==version``."""
    found = tuple(PipPin(name, version, HASHES) for name, _, version in (pin.partition("==") for pin in pins))
    return PipLock("base", Target("3.11", "2.36", "x86_64"), "0" * 64, found)


def conda_locked(name: str, version: str, build: str = "0") -> CondaLock:
    """A lock of one conda package."""
    package = CondaPackage(name, version, build, "c", "linux-64", f"{name}.conda", "0" * 64, 1)
    return CondaLock("linux-64", (), "0" * 64, (package,))


def environment(maximum: str | None, base: str = "base") -> Environment:
    """A pip image for a driver."""
    more = Extras(target=TargetProfile(cuda=maximum))
    return Environment("gpu", PipImage(Path("/a.in"), Path("/a.lock"), base, more=more), Path("/x.yml"))


@pytest.mark.parametrize(
    ("pin", "fits", "exceeds"),
    [
        ("nvidia-cuda-runtime-cu12==12.4.127", "12.4", "12.3"),
        ("nvidia-cublas-cu12==12.8.4.1", "12.9", "12.4"),
        ("nvidia-cuda-runtime==13.0.96", "13.0", "12.9"),
        ("cuda-toolkit==13.0.2", "13.1", "12.9"),
        ("torch==2.6.0+cu124", "12.4", "12.1"),
        ("torch==2.4.0+cu118", "11.8", "11.7"),
        ("cupy-cuda12x==13.3.0", "12.0", "11.8"),
        ("jax-cuda13-plugin==0.9", "13.0", "12.9"),
        ("nvidia-cufft-cu12==11.2.1.3", "12.0", "11.8"),
    ],
)
def test_locked_packages(pin: str, fits: str, exceeds: str) -> None:
    """A package for a CUDA above the driver's is refused by name with both versions; one at it is not."""
    refuse_locked_cuda(environment(fits), locked("numpy==2.0", pin))
    refuse_locked_cuda(environment(None), locked(pin))
    with pytest.raises(ConfigurationError) as caught:
        refuse_locked_cuda(environment(exceeds), locked("numpy==2.0", pin))
    assert f"image 'gpu': {pin.replace('==', ' ')} is built for CUDA " in caught.value.message
    assert f"supports {exceeds}" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("pin", ["numpy==13.0", "cuda-bindings==99.0", "torch==2.6.0+cpu", "pycuda==2024.1"])
def test_packages_that_say_nothing(pin: str) -> None:
    """A package that shows no CUDA is no reason to refuse anything."""
    lock = locked(pin)
    assert cuda.highest(cuda.needs(lock), "11.0") is None
    refuse_locked_cuda(environment("11.0"), lock)


@pytest.mark.parametrize(
    ("lock", "fits", "exceeds"),
    [
        (conda_locked("cuda-version", "12.4"), "12.4", "12.3"),
        (conda_locked("cudatoolkit", "11.8.0"), "11.8", "11.7"),
        (conda_locked("pytorch", "2.4.1", "cuda126_py311_0"), "12.6", "12.4"),
    ],
)
def test_locked_conda_packages(lock: CondaLock, fits: str, exceeds: str) -> None:
    """The same holds for conda's packages, of which the build tells."""

    def of(maximum: str) -> Environment:
        more = Extras(target=TargetProfile(cuda=maximum))
        declaration = CondaImage(Path("/e.yml"), Path("/e.lock"), "base", more=more)
        return Environment("gpu", declaration, Path("/x.yml"))

    refuse_locked_cuda(of(fits), lock)
    with pytest.raises(ConfigurationError, match=f"supports {exceeds}"):
        refuse_locked_cuda(of(exceeds), lock)


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("nvidia/cuda:12.4.1-base-ubuntu22.04", "12.4"),
        ("registry.example:5000/nvidia/cuda:12.6.0-runtime-rockylinux9", "12.6"),
        ("ghcr.io/allenai/pytorch:2.4.0-cuda12.1-python3.11", "12.1"),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", "12.4"),
        ("ours:torch-cu128", "12.8"),
        ("python:3.11-slim", None),
        ("cuda-tools:1.2", None),
        ("debian-python", None),
    ],
)
def test_references(reference: str, version: str | None) -> None:
    """The reference of a base tells its CUDA where people write it."""
    assert cuda.of_reference(reference) == version


def record(*variables: str) -> ImageRecord:
    """An image that the engine holds."""
    return ImageRecord("sha256:" + "1" * 64, {}, (), {"Env": list(variables)}, ())


def test_base_by_its_name() -> None:
    """A base whose name says too high a CUDA is refused before it is pulled; through a chain, too."""
    reference = "nvidia/cuda:12.6.1-base-ubuntu22.04"
    refuse_base_cuda(environment("12.6", reference), {})
    refuse_base_cuda(environment(None, reference), {})
    below = Environment("below", PipImage(Path("/b.in"), Path("/b.lock"), "cuda"), Path("/x.yml"))
    chain = {"below": below, "cuda": Environment("cuda", DockerImage(reference), Path("/x.yml"))}
    for base, known in ((reference, {}), ("below", chain)):
        with pytest.raises(ConfigurationError, match=r"has CUDA 12\.6, and the driver .* supports 12\.4"):
            refuse_base_cuda(environment("12.4", base), known)


def test_base_by_what_it_carries() -> None:
    """What the engine holds says its CUDA itself, as NVIDIA's images do; its name does not count then."""
    refuse_base_cuda(environment("12.4", "ours:cuda12.8"), {}, record("CUDA_VERSION=12.4.1"))
    with pytest.raises(ConfigurationError, match=r"has CUDA 12\.8"):
        refuse_base_cuda(environment("12.4", "ours:1"), {}, record("PATH=/bin", "CUDA_VERSION=12.8.0"))
    refuse_base_cuda(environment("12.4", "ours:1"), {}, record("CUDA_VERSION=unknown"))


def test_a_circle_of_bases_ends() -> None:
    """Whatever is declared, the question has an end."""
    circle = {"gpu": environment("12.4", "gpu")}
    refuse_base_cuda(circle["gpu"], circle)
    with pytest.raises(ConfigurationError, match=r"has CUDA 12\.8"):
        refuse_base_cuda(circle["gpu"], circle, record("CUDA_VERSION=12.8.0"))


def test_variables_of_gpu_images() -> None:
    """A GPU image has the variables by which the container runtime gives it GPUs; another has none."""
    assert gpu_env(TargetProfile()) == {}
    assert set(gpu_env(TargetProfile(cuda="12.4"))) == {
        "NVIDIA_DRIVER_CAPABILITIES",
        "NVIDIA_VISIBLE_DEVICES",
    }


def test_limits() -> None:
    """A driver's maximum allows each minor version up to it."""
    assert cuda.limits(None) == ()
    assert "nvidia-cuda-runtime-cu12<12.5" in cuda.limits("12.4")


def test_plans_refuse_before_anything_is_fetched() -> None:
    """A plan with a lock or a base that the driver is too old for is none; the engine is left as it was."""
    more = Extras(target=TargetProfile(cuda="12.4"))
    catalogue = environments(
        base=debian_image(),
        locked=replace(pip_image("locked"), more=more),
        upon=replace(pip_image("upon", base="nvidia/cuda:12.6.1-base"), more=more),
        well=replace(pip_image("well", base="nvidia/cuda:12.4.1-base"), more=more),
    )
    small, large = pip_lock("numpy==2.0"), pip_lock("nvidia-cuda-runtime-cu12==12.8.90")
    locks = FakeLocks({"base": debian_lock(), "locked": large, "upon": small, "well": small})
    for name, fact in (("locked", "is built for CUDA 12.8"), ("upon", "has CUDA 12.6")):
        store = FakeImageStore()
        with pytest.raises(ConfigurationError, match=fact):
            plan_images([name], catalogue, locks, store)
    plan = plan_images(["well"], catalogue, locks, FakeImageStore())
    source = plan.of("well").source
    assert isinstance(source, Generated)
    assert dict(source.spec.env)["NVIDIA_VISIBLE_DEVICES"] == "all"
