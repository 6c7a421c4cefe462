"""What a step asks of the machine it runs on. Owns the values and their units; refuses to know machines."""

from __future__ import annotations

from dispatch.errors import ConfigurationError
from dispatch.params import ArgumentError, Frozen, bind_arguments
from dispatch.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class StepResources(Frozen):
    """What a step asks of the machine it runs on; None leaves it to the executor.

    ``cpu_count`` may be a fraction. ``memory`` and ``shared_memory`` are sizes such as ``"16GiB"``, or bytes.
    ``machine`` names where it must run (``"local"``: the host of the client).
    """

    __slots__ = (  # noqa: RUF023 - the order of __init__
        "cpu_count",
        "gpu_count",
        "gpu_type",
        "memory",
        "shared_memory",
        "machine",
    )
    cpu_count: float | None
    gpu_count: int | None
    gpu_type: str | None
    memory: str | int | None
    shared_memory: str | int | None
    machine: str | None

    def __init__(
        self,
        cpu_count: float | None = None,
        gpu_count: int | None = None,
        gpu_type: str | None = None,
        memory: str | int | None = None,
        shared_memory: str | int | None = None,
        machine: str | None = None,
    ) -> None:
        self._set(
            cpu_count=cpu_count,
            gpu_count=gpu_count,
            gpu_type=gpu_type,
            memory=memory,
            shared_memory=shared_memory,
            machine=machine,
        )

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        return None if self.memory is None else parse_size(self.memory, "memory")

    @property
    def shared_memory_bytes(self) -> int | None:
        """``shared_memory`` in bytes."""
        return None if self.shared_memory is None else parse_size(self.shared_memory, "shared_memory")

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> StepResources:
        """Read ``step_resources`` of a config. Raises ArgumentError naming the key that is wrong."""
        resources = cls(**bind_arguments(cls, raw, substitute=_no_reference))
        for name in ("cpu_count", "gpu_count"):
            value = getattr(resources, name)
            if value is not None and not (value > 0 or (value == 0 and name == "gpu_count")):
                raise ArgumentError(name, f"{value!r} is not above zero", "leave it out for no limit")
        for name in ("memory", "shared_memory"):
            try:
                getattr(resources, f"{name}_bytes")
            except ConfigurationError as error:
                raise ArgumentError(name, error.message.partition(": ")[2], error.remedy) from error
        return resources

    def to_json(self) -> dict[str, Any]:
        """Return what is set, as ``from_config`` reads it."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}


def _no_reference(dependency: Any) -> Any:
    fact = f"the result of another step cannot be used here: {dependency!r}"
    raise ArgumentError("", fact, "only an argument of a step can refer to a step")
