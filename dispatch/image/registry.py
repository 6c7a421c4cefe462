"""What sending an image to a registry and fetching it from there have in common.

Owns how often a transfer is begun again, and that the engine keeps no name that only a registry gave.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from dispatch._beaker import BeakerDeniedError, BeakerUnreachableError
from dispatch._docker import EngineAbsentError
from dispatch.errors import EngineError, ImageError
from dispatch.image.ports import TransferringStore
from dispatch.reporting import Reporter, Task

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0, 4.0)


class FinalError(ImageError):
    """An image cannot be had, and will not be by beginning anew."""


def always() -> bool:
    """For transfers that nobody gives up."""
    return True


def persistently(
    transfer: Callable[[], T],
    name: str,
    report: Reporter,
    sleep: Callable[[float], None],
    wanted: Callable[[], bool] = always,
) -> T:
    """Return what ``transfer`` returns, beginning anew where it breaks off; what it finds done it leaves.

    Not where that is of no use: after a FinalError, where we may not, where Beaker or the engine are not
    there at all, or where it is not ``wanted`` any more.
    """
    for pause in PAUSES:
        try:
            return transfer()
        except (FinalError, EngineAbsentError, BeakerUnreachableError, BeakerDeniedError):
            raise
        except (EngineError, ImageError) as error:
            if not wanted():
                raise
            report(f"{name}: {error.message}: trying again")
            sleep(pause)
    return transfer()


class Called:
    """A reporter that calls an image by a name for people, where the engine only knows where it lies."""

    def __init__(self, report: Reporter, reference: str, name: str) -> None:
        self._report = report
        self._reference = reference
        self._name = name

    def __call__(self, line: str, /) -> None:
        """See :class:`dispatch.reporting.Reporter`."""
        self._report(line.replace(self._reference, self._name))

    def task(self, name: str, total: int | None = None) -> Task:
        """See :class:`dispatch.reporting.Reporter`."""
        return self._report.task(name.replace(self._reference, self._name), total)


def split_reference(reference: str) -> tuple[str, str]:
    """Return the repository and the tag of a reference; the tag may have been left out."""
    repository, colon, tag = reference.rpartition(":")
    # The colon may be the one before a port.
    return (repository, tag) if colon and "/" not in tag else (reference, "latest")


def without_name(engine: TransferringStore, reference: str, image_id: str) -> None:
    """Take a registry's name from an image that has another one; never its last, with which it would go.

    So does the digest that the engine keeps of a push: where two clients push under one name at once, the
    first takes that away, and the second's push leaves a digest without one.
    """
    with contextlib.suppress(EngineError, ImageError):
        record = engine.inspect_image(image_id)
        if record is None or not set(record.tags) - {reference}:
            return
        repository = split_reference(reference)[0]
        digests = [each for each in record.digests if each.partition("@")[0] == repository]
        for name in [each for each in record.tags if each == reference] or digests:
            engine.remove_image(name)
