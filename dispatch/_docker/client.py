"""The door itself: one object that stands for one engine, wherever it is.

Owns which calls go by hand and which by docker-py (load, pull, push: chunked bodies, registry credentials),
and the translation of docker-py's and requests' errors into ours. Refuses to decide anything about steps.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._docker import images
from dispatch._docker.address import Address
from dispatch._docker.images import ImageRecord, Right, any_image
from dispatch._docker.pulling import PulledLayers, PushedLayers
from dispatch._docker.socket import SEND_TIMEOUT, ApiError, EngineSocket, Stream
from dispatch.errors import EngineError, ImageError
from dispatch.reporting import Reporter, working

if TYPE_CHECKING:
    from dispatch._docker.bridge import Bridge
    from dispatch._docker.building import BuildRequest
    from dispatch._docker.containers import Containers
    from dispatch._docker.files import Files
    from dispatch._docker.helper import Finished, OneShot
    from dispatch._docker.sight import Sight
    from dispatch._docker.stock import Stock

PING_TIMEOUT = 10.0
TRANSFER_TIMEOUT = 900


@dataclass(frozen=True)
class Pong:
    """What an engine says of itself at once."""

    api_version: str
    server: str


@dataclass(frozen=True)
class Credentials:
    """What a registry lets one in with. The engine is given it for one transfer, and keeps it nowhere."""

    user: str
    password: str = field(repr=False)


def _always() -> bool:
    return True


class Door:
    """One engine. Constructing it does nothing; safe to share between threads.

    ``home`` is a directory of this machine in which the engine's sight is tried before any job is known.

    All methods raise EngineError when the engine is absent, closed to us, or breaks off.
    """

    def __init__(self, address: Address, home: Path | None = None) -> None:
        self.address = address
        self._home = home
        self._engine = EngineSocket(address)
        self._lock = threading.Lock()
        self._client: Any = None
        self._bridge: Bridge | None = None
        self._info: Mapping[str, Any] | None = None

    @property
    def home(self) -> Path:
        """A directory of this machine in which the engine's sight may be tried."""
        import tempfile

        return self._home or Path(tempfile.gettempdir())

    @cached_property
    def containers(self) -> Containers:
        """The engine's containers."""
        from dispatch._docker.containers import Containers

        return Containers(self._engine)

    @cached_property
    def files(self) -> Files:
        """Files inside of its containers, and its volumes."""
        from dispatch._docker.files import Files

        return Files(self._engine)

    @cached_property
    def sight(self) -> Sight:
        """What may be mounted there of this machine's files."""
        from dispatch._docker.sight import Sight

        return Sight(self.address, self.containers, self.files, self.info)

    @cached_property
    def stock(self) -> Stock:
        """All its images, and who uses them."""
        from dispatch._docker.stock import Stock

        return Stock(self._engine)

    def ping(self) -> Pong:
        """Ask whether the engine is there and may be used."""
        reply = self._engine.ask("GET", "/_ping", timeout=PING_TIMEOUT)
        return Pong(reply.headers.get("api-version", ""), reply.headers.get("server", ""))

    def info(self) -> Mapping[str, Any]:
        """Return the engine's own description (the Engine API's ``/info``), as it was when first asked."""
        if self._info is None:
            answer: Mapping[str, Any] = self._engine.ask("GET", "/info").json()
            self._info = answer
        return self._info

    def bridge_address(self) -> str | None:
        """Return where containers of the default network find this machine, None where they do not."""
        from dispatch._docker.networks import bridge_address

        return bridge_address(self._engine)

    def bridge_stamp(self) -> str:
        """Return what is another one after the engine was started anew; see :mod:`.networks`."""
        from dispatch._docker.networks import bridge_stamp

        return bridge_stamp(self._engine)

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image under a reference or ID, or None if the engine does not hold it."""
        return images.inspect_image(self._engine, reference)

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """Return an image that carries the label with this value and is ``right``, or None."""
        return images.find_image(self._engine, label, value, right)

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name; a name that another image had moves over.

        :raises ImageError: when the engine does not hold the image, or the name is none
        """
        images.checked_reference(f"{repository}:{tag}")
        path = f"/images/{images.checked_reference(image_id)}/tag"
        try:
            self._engine.ask("POST", path, {"repo": repository, "tag": tag})
        except ApiError as error:
            raise ImageError(
                f"image {image_id}: it cannot be tagged {repository}:{tag}: {error.detail}"
            ) from error

    def remove_image(self, reference: str) -> None:
        """Take a name from its image, and remove the image with its last name; an absent one is no error."""
        reply = self._engine.call("DELETE", f"/images/{images.checked_reference(reference)}")
        if reply.status >= 400 and reply.status != 404:
            detail = reply.body.decode("utf-8", "replace").strip()
            raise ImageError(f"image {reference}: it cannot be removed: {detail}")

    def prepare_load(self) -> None:
        """Get ready for a load: docker-py's import takes a while that a caller may have other use for."""
        self._docker_py()

    def load(self, chunks: Iterable[bytes]) -> None:
        """Send a tar in the format of ``docker save``. Layers that the engine holds may be left out of it.

        :raises ImageError: when the engine cannot use it
        """
        client = self._docker_py()
        with _vendor_errors("the image"):
            for message in client.load_image(data=iter(chunks), quiet=True):
                if "error" in message:
                    raise ImageError(f"the image: the engine cannot load it: {message['error']}")

    def save(self, image_id: str) -> Stream:
        """Return an image as an archive in the format of ``docker save``, while the engine writes it.

        Nothing comes before the engine has put all of it together. The caller closes the stream.
        """
        return self._engine.open(f"/images/{images.checked_reference(image_id)}/get", timeout=SEND_TIMEOUT)

    def pull(
        self,
        reference: str,
        report: Reporter,
        credentials: Credentials | None = None,
        wanted: Callable[[], bool] = _always,
    ) -> ImageRecord:
        """Fetch an image from its registry, telling each change of state.

        Without ``credentials`` it is the user's own. ``wanted`` is asked whenever the engine tells of
        progress; the pull is broken off when it says no.

        :raises ImageError: when the registry has no such image or does not let us, and when given up
        """
        images.checked_reference(reference)
        client = self._docker_py()
        login = credentials and {"username": credentials.user, "password": credentials.password}
        with _vendor_errors(f"image {reference}"), working(report, f"{reference}: pulling") as task:
            layers = PulledLayers(task)
            for message in client.pull(reference, stream=True, decode=True, auth_config=login):
                if not wanted():
                    raise ImageError(f"image {reference}: the pull was given up")
                if "error" in message:
                    raise ImageError(f"image {reference}: it cannot be pulled: {message['error']}")
                if "progressDetail" in message:
                    layers.take(message)
                elif message.get("status"):
                    report(str(message["status"]))
        record = self.inspect_image(reference)
        if record is None:
            raise ImageError(
                f"image {reference}: it was pulled, and then removed by somebody", "repeat the command"
            )
        return record

    def push(
        self,
        reference: str,
        report: Reporter,
        credentials: Credentials,
        wanted: Callable[[], bool] = _always,
    ) -> None:
        """Send an image to the registry that its name (with a tag) is of; what that holds is not sent.

        The credentials go to the engine in a header of this one call. ``wanted``: see :meth:`pull`.

        :raises ImageError: when the engine has no such image, or the registry does not take it
        """
        images.checked_reference(reference)
        client = self._docker_py()
        login = {"username": credentials.user, "password": credentials.password}
        with _vendor_errors(f"image {reference}"), working(report, f"{reference}: pushing") as task:
            layers = PushedLayers(task)
            for message in client.push(reference, stream=True, decode=True, auth_config=login):
                if not wanted():
                    raise ImageError(f"image {reference}: the push was given up")
                if "error" in message:
                    raise ImageError(f"image {reference}: it cannot be pushed: {message['error']}")
                if "progressDetail" in message:
                    layers.take(message)

    def build(self, request: BuildRequest, report: Reporter, cancelled: Callable[[], bool]) -> str:
        """Build from a Dockerfile and return the image's ID; see :mod:`.building`."""
        from dispatch._docker import building

        return building.build(self._engine, request, report, cancelled)

    def build_files(
        self,
        request: BuildRequest,
        path: str,
        target: Path,
        report: Reporter,
        cancelled: Callable[[], bool],
    ) -> None:
        """Build files: lay down a directory of the image that a build comes to; see :mod:`.building`."""
        from dispatch._docker import building

        building.build_files(self._engine, request, path, target, report, cancelled)

    def run_once(self, shot: OneShot) -> Finished:
        """Run a helper container to its end and remove it, whatever happens.

        :raises ImageError: when the image cannot run the command
        :raises EngineError: also when it has not ended after ``shot.timeout`` seconds
        """
        from dispatch._docker import helper

        return helper.run_once(self.containers, self.files, self.sight, shot)

    def close(self) -> None:
        """Give back the connections of docker-py, if it was needed."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._bridge is not None:
                self._bridge.close()
                self._bridge = None

    def _docker_py(self) -> Any:
        """docker-py's client, made on first need, with the API version that the engine itself names."""
        with self._lock:
            if self._client is None:
                version = self.ping().api_version
                from docker import APIClient

                with _vendor_errors("Docker Engine"):
                    url = f"unix://{self._path_for_docker_py()}"
                    self._client = APIClient(base_url=url, version=version, timeout=TRANSFER_TIMEOUT)
            return self._client

    def _path_for_docker_py(self) -> str:
        if self.address.is_local:
            return self.address.socket_path
        from dispatch._docker.bridge import Bridge

        self._bridge = self._bridge or Bridge(self._engine.transport)
        return str(self._bridge.path)


@contextlib.contextmanager
def _vendor_errors(what: str) -> Iterator[None]:
    """Let nothing of docker-py, requests or urllib3 through."""
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise ImageError(f"{what}: the engine refused: {error.explanation or error}") from error
    except (docker.errors.DockerException, json.JSONDecodeError) as error:
        raise EngineError(f"{what}: the engine cannot be used: {error}") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise EngineError(
            f"{what}: the engine broke off while it was transferred",
            "see whether the engine still runs and has room on its disk (`dispatch doctor`)",
        ) from error
