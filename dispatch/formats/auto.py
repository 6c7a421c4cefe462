"""The format that finds one that fits. ``choice`` finds it."""

from __future__ import annotations

from dispatch.formats.base import Format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@Format.register("auto")
class AutoFormat(Format["Any"]):
    """The first format that gives the value back exactly, else pickle.

    In this order: text; bytes; JSON; an iterator's items as JSON lines, or as a row of pickles from the first
    item on that JSON does not give back; the file or directory that a Path names in one of the step's own
    directories or among temporary files (and a Path to anywhere else stays a path: format ``files`` takes
    what it names); NumPy arrays and dicts of them; Arrow tables; dicts of Torch tensors, where safetensors is
    installed; tagged JSON, for dataclasses, enums, dates, tuples and so on; pickle.
    """

    NAME = "auto"

    def accepts(self, value: Any) -> bool:  # noqa: ARG002
        """Accept anything: whether it can be pickled shows when it is."""
        return True

    def write(self, value: Any, directory: Any, *, own: Any = ()) -> str:
        """Write in the format that fits; see ``Format.write``."""
        from dispatch.formats.choice import write

        return write(value, directory, own)


AUTO: Format[Any] = AutoFormat()
