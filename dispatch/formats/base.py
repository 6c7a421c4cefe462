"""What a format is. Knows no particular one.

``storing`` has how a value comes into a directory, ``reading`` how it comes back.
"""

# ruff: noqa: PTH123

from __future__ import annotations

from types import GenericAlias

from dispatch.errors import FormatError
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable
    from typing import IO, Any, Generic, TypeVar

    T = TypeVar("T")

    class _Generic(Registrable, Generic[T]):
        """What makes ``Format[X]`` known to type checkers."""
else:

    class _Generic(Registrable):
        """What makes ``Format[X]`` an annotation that can be read."""

        __class_getitem__ = classmethod(GenericAlias)


class UnfitError(FormatError):
    """The value is not one that the format gives back exactly. Nothing of it was written."""


class Format(_Generic["T"]):
    """Writes a value as one file (or directory) inside a result's directory, and reads it back.

    A format of your own has a ``NAME`` and a ``VERSION``, which are part of a step's identity; a ``FILE``
    that begins with ``data.`` and is no other format's; ``accepts``, ``dump`` and ``load``; and it is
    registered: ``@Format.register("wav")``. A result is read by it wherever its module has been imported or
    it is registered; elsewhere the result is the directory's path. Reading makes an object without
    arguments. For a directory override ``save`` and ``restore`` in place of ``dump`` and ``load``.

    ``REQUIRES`` names the distributions that reading needs, as package indices know them. ``RUNS_CODE`` says
    that reading may run code that the file names, and so needs trust in who wrote it. ``modules``, which the
    reader sets, names packages (and what is below them) whose classes data may have imported.
    """

    default_implementation = "auto"

    NAME: str
    VERSION: str = "001"
    FILE: str
    TAKES: str = ""
    REQUIRES: tuple[str, ...] = ()
    RUNS_CODE: bool = False

    modules: Collection[str] = ()

    def accepts(self, value: Any) -> bool:
        """Say whether reading gives back exactly what was written."""
        raise NotImplementedError

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write an accepted value."""
        raise NotImplementedError

    def load(self, file: IO[bytes]) -> Any:
        """Read what ``dump`` wrote."""
        raise NotImplementedError

    def ensure_available(self) -> None:
        """Raise FormatError, before anything is computed, if the format lacks what it needs."""

    @property
    def file_name(self) -> str:
        """The name of the file that ``write`` makes."""
        return self.FILE

    def save(self, value: Any, path: str) -> None:
        """Make the file ``path``, which is not there, of an accepted value."""
        with open(path, "xb") as file:
            self.dump(value, file)

    def restore(self, path: str) -> Any:
        """Read the file ``path`` that ``save`` made. Any exception means that it cannot be read."""
        from dispatch.formats.reading import open_regular

        with open_regular(path) as file:
            return self.load(file)

    def write(self, value: T, directory: str | os.PathLike[str], *, own: Iterable[str] = ()) -> str:  # noqa: ARG002
        """Write ``value`` into ``directory``, which exists, and return the name of the file.

        ``own`` are directories of the step's own: where a Path is the result, what it names may be moved out
        of them, and is copied from anywhere else. Whoever commits the result brings it to the disk.

        Raises UnfitError for a value that the format would change, FormatError if it cannot be written, and
        leaves no file behind then; what an iterator raises is passed on as it is.
        """
        from dispatch.formats.storing import put, unfit

        if not self.accepts(value):
            raise unfit(self, value)
        return put(self, value, directory)

    def read(
        self,
        directory: str | os.PathLike[str],
        *,
        trust_pickle: bool = False,
        modules: Collection[str] = (),
    ) -> T:
        """Return the result in ``directory``; see ``read_result``."""
        from dispatch.formats.reading import read

        result: T = read(directory, trust_pickle, modules)
        return result
