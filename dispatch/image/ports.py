"""What the making of images needs from outside, as protocols; the Docker door and the locks satisfy them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dispatch._docker.images import Right, any_image
from dispatch.environment import BeakerId, Environment
from dispatch.lock.model import CondaLock, DebianLock, PipLock
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch._docker import Credentials, ImageRecord
    from dispatch._docker.helper import Finished, OneShot
    from dispatch.image.planned import Generated
    from dispatch.image.spec import ImageSpec


class ImageStore(Protocol):
    """An engine's images. All methods may raise EngineError."""

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of a reference or ID, or None if the engine does not hold it."""

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """Return an image that carries the label with this value and is ``right``, or None."""

    def prepare_load(self) -> None:
        """Get ready for a load that will follow; may be called from another thread, or not at all."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Take in an archive in the format of ``docker save``; raise ImageError if it is refused."""

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it."""

    def pull(self, reference: str, report: Reporter) -> ImageRecord:
        """Fetch an image from its registry; raise ImageError or EngineError where that fails."""


class TransferringStore(Protocol):
    """An engine's images on their way to and from a registry. All methods may raise EngineError."""

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of a reference or ID, or None if the engine does not hold it."""

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it."""

    def remove_image(self, reference: str) -> None:
        """Take a name from its image, and remove the image with its last name."""

    def push(
        self, reference: str, report: Reporter, credentials: Credentials, wanted: Callable[[], bool]
    ) -> None:
        """Send an image to the registry that its name is of, for as long as ``wanted`` says; raise ImageError
        where that fails."""

    def pull(self, reference: str, report: Reporter, credentials: Credentials | None = None) -> ImageRecord:
        """Fetch an image from its registry; raise ImageError where that fails."""


@dataclass(frozen=True)
class SharedImage:
    """An image that a registry holds: its reference there by digest, and what its configuration says."""

    reference: str
    record: ImageRecord


class SharedImages(Protocol):
    """The registry that a team shares its images through, each under its tag (``sharing.Sharing``).

    All methods raise ImageError or EngineError where the registry does not answer, or does not let us.
    """

    @property
    def repository(self) -> str:
        """What stands before a tag there (``ghcr.io/team/dispatch``)."""

    def find(self, tag: str, platform: str) -> SharedImage | None:
        """Return the image of a tag for a platform (``linux/amd64``), or None."""

    def fetch(self, image: SharedImage, report: Reporter) -> None:
        """Bring an image that was found into the engine, under its ID alone; nothing is built."""

    def push(self, name: str, spec: ImageSpec, image_id: str, report: Reporter) -> SharedImage:
        """Send the engine's image of a specification, and give it the tag of ``name`` last; what is there
        already is not sent."""


class BeakerImages(Protocol):
    """Images of Beaker for an engine (``importing.Importer``). All methods may raise EngineError."""

    def identify(self, name: str) -> BeakerId:
        """Return the id that a name has now; raise ImageError where it has none."""

    def provide(self, image: BeakerId, report: Reporter) -> ImageRecord:
        """Return the engine's image of an id, fetched where need be; raise ImageError where that fails."""


class HelperRunner(Protocol):
    """Runs short helper containers."""

    def run_once(self, shot: OneShot) -> Finished:
        """Run a container to its end and remove it; a failing command is no error of the engine."""


class RootfsMaker(Protocol):
    """Makes the root file system of a Debian base (``image.debian.DebianBuilder.build``)."""

    def __call__(self, name: str, lock: DebianLock, target: Path, report: Reporter) -> None:
        """Write the deterministic tar of a lock's packages to ``target``; LockError or ImageError."""


class Locks(Protocol):
    """Reads the committed locks; raises LockError where one is missing or stale."""

    def pip(self, environment: Environment) -> PipLock:
        """Return the lock of a pip environment."""

    def debian(self, environment: Environment) -> DebianLock:
        """Return the lock of a Debian base."""

    def conda(self, environment: Environment) -> CondaLock:
        """Return the lock of a conda environment."""


class Installer(Protocol):
    """Installs a pip lock into a staging prefix, checking every hash (``lock.uv.Uv``)."""

    def install(
        self, lock: PipLock, prefix: Path, python: str, built: Mapping[str, Path] | None = None
    ) -> None:
        """Fill ``prefix`` with ``lib/python<python>/site-packages`` and ``bin``; LockError or ImageError.

        ``built`` are wheels of packages that the lock has as source, by name. The files may be links into a
        cache of the installer's own: they are never written to.
        """


class WheelBuilder(Protocol):
    """Builds what a lock has as source (``image.wheels.WheelMaker``)."""

    def __call__(
        self,
        name: str,
        lock: PipLock,
        base: ImageRecord,
        interpreter: str,
        report: Reporter,
        cancelled: Callable[[], bool],
    ) -> Mapping[str, Path]:
        """Return the wheel of every such package, by name, built upon ``base``; LockError or ImageError."""


class CondaInstaller(Protocol):
    """Installs a conda lock into a staging prefix, checking every hash (``lock.rattler.Rattler``)."""

    def install(self, lock: CondaLock, staging: Path, prefix: str, report: Reporter) -> None:
        """Fill ``staging`` with the environment as it is to be at ``prefix``; LockError or ImageError.

        Files that are one inode are one in their package. No script of a package is run.
        """


class DockerfileBuilder(Protocol):
    """Builds what is made by steps inside of an image (``image.dockerfile``)."""

    def __call__(
        self,
        generated: Generated,
        base: ImageRecord | None,
        report: Reporter,
        cancelled: Callable[[], bool],
    ) -> ImageRecord:
        """Build and return the image, labelled with the digest of ``generated.spec``; ImageError.

        The build is broken off when ``cancelled`` says so.
        """
