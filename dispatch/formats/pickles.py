"""Pickle and dill, for anything else. Reading them runs the code that they name."""

from __future__ import annotations

from dispatch.formats.storing import CompressibleFormat, needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

# The newest that Python 3.9 reads: the step that reads may run on an older Python than the one that wrote.
PROTOCOL = 5


class PickleFormat(CompressibleFormat["Any"]):
    """Pickle. An iterator is written item by item as ``data.pickles``, and comes back as an iterator."""

    NAME = "pickle"
    FILE = "data.pickle"
    RUNS_CODE = True

    def accepts(self, value: Any) -> bool:  # noqa: ARG002
        """Accept anything: whether it can be pickled shows when it is."""
        return True

    def write(self, value: Any, directory: Any, *, own: Any = ()) -> str:
        """Write a value, or the items of an iterator; see ``Format.write``."""
        from dispatch.formats.streams import PicklesFormat, is_stream

        if is_stream(value):
            return PicklesFormat(self.compress, self.NAME, self.dump).write(value, directory)
        return super().write(value, directory, own=own)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Pickle into the file."""
        import pickle

        pickle.dump(value, file, protocol=PROTOCOL)

    def load(self, file: IO[bytes]) -> Any:
        """Unpickle, whatever code that runs."""
        import pickle

        return pickle.load(file)


class DillFormat(PickleFormat):
    """Pickle as written by dill, which also takes lambdas. Reading it needs dill, too."""

    NAME = "dill"
    REQUIRES = ("dill",)

    def ensure_available(self) -> None:
        """Raise FormatError if dill is not installed."""
        super().ensure_available()
        needed("dill", self.NAME)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Pickle into the file."""
        needed("dill", self.NAME).dump(value, file, protocol=PROTOCOL)
