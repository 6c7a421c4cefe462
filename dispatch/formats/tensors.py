"""Dicts of tensors as ``data.safetensors``. Source of the format: the safetensors project, "Format"."""

# ruff: noqa: PTH101, PTH123

from __future__ import annotations

import json
import os
import sys

from dispatch.errors import ConfigurationError, FormatError
from dispatch.formats.base import Format
from dispatch.formats.reading import open_regular
from dispatch.formats.storing import needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FRAMEWORKS = ("torch", "numpy")
_KEY = "dispatch"


class SafetensorsFormat(Format["Any"]):
    """A dict of dense CPU tensors of Torch, or of NumPy arrays, with text keys in their order.

    Tensors that share memory, need a gradient, are on a device or of a subclass (parameters) would come back
    changed, and are refused. ``framework`` (``torch`` or ``numpy``) says which it is going to be, so that it
    can be checked that those who read it have it.
    """

    NAME = "safetensors"
    FILE = "data.safetensors"
    TAKES = "dicts with text keys of dense, separate tensors on the CPU, or of NumPy arrays,"
    REQUIRES: tuple[str, ...] = ("safetensors",)

    def __init__(self, framework: str | None = None) -> None:
        if framework is not None and framework not in _FRAMEWORKS:
            raise ConfigurationError(
                f"format {self.NAME!r}: there is no framework {framework!r}", "say torch or numpy"
            )
        self.framework = framework
        if framework is not None:
            self.REQUIRES = (*type(self).REQUIRES, framework)

    def ensure_available(self) -> None:
        """Raise FormatError if safetensors, or the framework that was named, is not installed."""
        needed("safetensors", self.NAME)
        if self.framework is not None:
            needed(self.framework, self.NAME)

    def accepts(self, value: Any) -> bool:
        """Accept what comes back with the very same types."""
        if type(value) is not dict or not value or not all(type(key) is str for key in value):
            return False
        frameworks = _FRAMEWORKS if self.framework is None else (self.framework,)
        return any(_CHECKS[framework](value) for framework in frameworks)

    def save(self, value: Any, path: str) -> None:
        """Write all tensors."""
        framework = "torch" if _are_torch(value) else "numpy"
        module = needed(f"safetensors.{framework}", self.NAME)
        # Made here, so that a file that is there already is not overwritten.
        with open(path, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        # safetensors sorts by type and name.
        facts = json.dumps({"framework": framework, "order": [*value]})
        module.save_file(value, path, {"format": "pt" if framework == "torch" else "np", _KEY: facts})
        # It has put a file in the place of ours that only its owner may read.
        os.chmod(path, mode & 0o777)

    def restore(self, path: str) -> Any:
        """Read all tensors into memory."""
        opener = needed("safetensors", self.NAME).safe_open
        open_regular(path).close()
        with opener(path, framework="np") as file:
            metadata = file.metadata() or {}
        facts = json.loads(metadata.get(_KEY, "{}"))
        framework = facts.get("framework", "torch" if metadata.get("format") == "pt" else "numpy")
        if framework not in _FRAMEWORKS:
            raise FormatError(f"tensors of {framework!r} are not known here")
        needed(framework, self.NAME)
        with opener(path, framework="pt" if framework == "torch" else "np") as file:
            return {name: file.get_tensor(name) for name in facts.get("order", file.keys())}


def is_installed() -> bool:
    """Whether safetensors can be imported."""
    try:
        needed("safetensors", "safetensors")
    except FormatError:
        return False
    return True


def _are_torch(value: dict[str, Any]) -> bool:
    torch: Any = sys.modules.get("torch")
    if torch is None or not all(type(tensor) is torch.Tensor for tensor in value.values()):
        return False
    places = set()
    for tensor in value.values():
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.is_contiguous()
        if not dense or tensor.requires_grad or tensor.is_conj() or tensor.is_neg():
            return False
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() in places:
            return False
        places.add(storage.data_ptr())
    return True


def _are_numpy(value: dict[str, Any]) -> bool:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return False
    kinds = {numpy.dtype(name).str for name in ("?", *"bhilBHIL", "f2", "f4", "f8", "i8", "u8", "c8")}
    return all(
        type(array) is numpy.ndarray
        and array.dtype.str in kinds
        and array.dtype.type is numpy.dtype(array.dtype.str).type
        and array.dtype.metadata is None
        and array.flags.c_contiguous
        for array in value.values()
    )


_CHECKS = {"torch": _are_torch, "numpy": _are_numpy}
