"""What of an image could never run on the machines it is meant for: CUDA beyond their driver.

Owns the judgement of locks and bases against ``target: {cuda: …}``, and the variables that a GPU image has.
It is asked before anything is downloaded, so it knows locks, names and what an engine holds, and no more.
Whether wheels fit a base's Python, glibc and machine is said by :func:`dispatch.image.base.refuse_misfit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dispatch._docker import ImageRecord
from dispatch.environment import DockerImage, Environment, TargetProfile
from dispatch.errors import ConfigurationError
from dispatch.lock import cuda
from dispatch.lock.model import CondaLock, PipLock

_VERSION = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}")


def gpu_env(target: TargetProfile) -> dict[str, str]:
    """Return the variables by which NVIDIA's container runtime gives an image its GPUs; none without CUDA.

    NVIDIA's own base images set the same, so that packages which bring CUDA need no such base.
    """
    if target.cuda is None:
        return {}
    return {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility", "NVIDIA_VISIBLE_DEVICES": "all"}


def refuse_locked_cuda(environment: Environment, lock: PipLock | CondaLock) -> None:
    """Raise ConfigurationError if a lock holds a package for a CUDA above the driver's maximum."""
    maximum = target_of(environment).cuda
    need = None if maximum is None else cuda.highest(cuda.needs(lock), maximum)
    if maximum is None or need is None:
        return
    raise ConfigurationError(
        f"image {environment.name!r}: {need.package} is built for CUDA {need.version}, and the driver of its "
        f"target supports {maximum}",
        "ask for an older release of what brings it and lock again, or raise `target: {cuda: …}` where the "
        "driver is newer",
    )


def refuse_base_cuda(
    environment: Environment, environments: Mapping[str, Environment], record: ImageRecord | None = None
) -> None:
    """Raise ConfigurationError if what the image stands on has a CUDA above the driver's maximum.

    While the engine does not hold it, its reference is all that is looked at; ``record`` says more, as
    NVIDIA's images carry their version.
    """
    maximum = target_of(environment).cuda
    base = "" if maximum is None else _foundation(environment, environments)
    version = _declared(record) or cuda.of_reference(base)
    if maximum is None or version is None or cuda.parts(version) <= cuda.parts(maximum):
        return
    raise ConfigurationError(
        f"image {environment.name!r}: its base {base} has CUDA {version}, and the driver of its target "
        f"supports {maximum}",
        f"name a base with CUDA {maximum} or less: packages that bring CUDA need none at all",
    )


def _foundation(environment: Environment, environments: Mapping[str, Environment]) -> str:
    """Return the reference of the existing image that a chain of images begins with, or ``""``."""
    passed: set[str] = set()
    while environment.name not in passed:
        passed.add(environment.name)
        declaration = environment.declaration
        if isinstance(declaration, DockerImage):
            return declaration.reference
        base = str(getattr(declaration, "base", ""))
        if base not in environments:
            return base
        environment = environments[base]
    return ""


def target_of(environment: Environment) -> TargetProfile:
    """Return the machines that a declaration is for; those of a kind that cannot say so are unknown."""
    more = getattr(environment.declaration, "more", None)
    target = getattr(more, "target", None)
    return target if isinstance(target, TargetProfile) else TargetProfile()


def _declared(record: ImageRecord | None) -> str | None:
    """Return the CUDA version that an image carries as a variable."""
    variables = record.config.get("Env") or () if record is not None else ()
    for variable in variables:
        name, _, value = str(variable).partition("=")
        if name == "CUDA_VERSION" and (found := _VERSION.match(value)):
            return found[0]
    return None
