"""beaker-py's client with deadlines, without its endless retries, and one connection a thread.

beaker-py repeats a call for ever where the server does not answer, and opens a connection for each request.
Here each attempt has a deadline and fails at once; :mod:`dispatch._beaker.calls` decides what is repeated.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import grpc
import requests
from beaker import Beaker
from beaker.beaker_pb2_grpc import BeakerStub
from beaker.config import Config
from beaker.exceptions import BeakerConfigurationError

from dispatch.errors import ConfigurationError

RPC_DEADLINE = 20.0
HTTP_DEADLINE = 60.0
_SHORTEST = 0.05
_MESSAGE = 64 << 20
# By itself a channel looks less and less often whether a server is back, in the end every two minutes.
_CHANNEL = (
    ("grpc.max_send_message_length", _MESSAGE),
    ("grpc.max_receive_message_length", _MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
REMEDY = "log in with BEAKER_TOKEN or the Beaker command line's config, or see `dispatch beaker env`"
_DOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)


class Unavailable(Exception):
    """An attempt at a call came to nothing: the server did not answer it. May be repeated."""


class Limit(threading.local):
    """Until when the calling thread has to be done, on a monotonic clock; ``until`` is None where it has not.

    ``patience`` is for how long what fails at once may be repeated meanwhile. Other threads have limits of
    their own, in the same object.
    """

    until: float | None = None
    patience: float | None = None
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def left(self, most: float) -> float:
        """How many seconds are left, at most so many."""
        return most if self.until is None else min(most, self.until - self.clock())


class _Method:
    """One method of the service, whose calls end."""

    def __init__(self, method: Any, deadline: float | None, limit: Limit) -> None:
        self._inner = method
        self._method = method._method
        self._deadline = deadline
        self._limit = limit

    def __call__(self, request: Any, metadata: Any = None) -> Any:
        left = None if self._deadline is None else max(_SHORTEST, self._limit.left(self._deadline))
        try:
            return self._inner(request, metadata=metadata, timeout=left)
        except grpc.RpcError as error:
            if is_passing(error):
                raise Unavailable(error.details() or str(error.code())) from error
            raise


def is_passing(error: Exception) -> bool:
    """Whether gRPC says that a call, or a stream in the middle, came to nothing this time."""
    if not isinstance(error, grpc.Call):
        return False
    details = error.details() or ""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Too many requests; the same code is used for an answer that is too long for us.
        return "larger than max" not in details
    if error.code() is grpc.StatusCode.UNKNOWN:
        return "Stream removed" in details
    return error.code() in _DOWN


class _Service:
    """The service's methods by name; streams have no deadline, for they may wait for a job."""

    def __init__(self, stub: Any, limit: Limit) -> None:
        self._stub = stub
        self._limit = limit

    def __getattr__(self, name: str) -> Any:
        deadline = None if name.startswith("Stream") else RPC_DEADLINE
        method = _Method(getattr(self._stub, name), deadline, self._limit)
        setattr(self, name, method)
        return method


class Client(Beaker):
    """The vendor's client, tamed. May be used from several threads."""

    # Not the program's "beaker": at DEBUG, beaker-py writes down bodies, in which are tokens and secrets.
    logger = logging.Logger("dispatch.beaker", logging.INFO)

    MAX_RETRIES = 0

    def __init__(self, config: Config, user_agent: str, limit: Limit | None = None) -> None:
        super().__init__(config, check_for_upgrades=False, user_agent=user_agent)
        self.limit = limit or Limit()
        self._made: list[requests.Session] = []
        self._making = threading.Lock()
        self._tamed: Any = None

    @property
    def TIMEOUT(self) -> float:  # type: ignore[override]
        """How long one request may wait for bytes."""
        return max(_SHORTEST, self.limit.left(HTTP_DEADLINE))

    @property
    def service(self) -> Any:
        """The service, with deadlines."""
        with self._making:
            if self._tamed is None:
                self._channel = grpc.secure_channel(
                    self.config.rpc_address, grpc.ssl_channel_credentials(), options=_CHANNEL
                )
                self._tamed = _Service(BeakerStub(self._channel), self.limit)  # type: ignore[no-untyped-call]
            return self._tamed

    @contextmanager
    def http_session(self) -> Iterator[requests.Session]:
        """The calling thread's own session, kept."""
        session = getattr(self._thread_local, "http_session", None)
        if session is None:
            session = self._thread_local.http_session = requests.Session()
            with self._making:
                self._made.append(session)
        yield session

    def close(self) -> None:
        """Close all connections."""
        super().close()  # type: ignore[no-untyped-call]
        self._tamed = None
        for session in getattr(self, "_made", ()):
            session.close()


def connect(options: Mapping[str, Any], user_agent: str) -> Client:
    """Configure a client as ``Beaker.from_env(**options)`` does; nothing is sent.

    :raises ConfigurationError: without a token, or for options that beaker-py does not know
    """
    known = {
        name: value for name, value in options.items() if name not in ("check_for_upgrades", "user_agent")
    }
    try:
        return Client(Config.from_env(**known), str(options.get("user_agent", user_agent)))
    except BeakerConfigurationError as error:
        raise ConfigurationError(f"Beaker: {error}", REMEDY) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"Beaker: its configuration cannot be read: {error}", REMEDY) from error


def options_of(client: Beaker) -> dict[str, Any]:
    """The options with which :func:`connect` makes a client of the same address and account."""
    return dict(vars(client.config))


def vendor(client: Client) -> Beaker:
    """The client as beaker-py's own users know it."""
    return cast("Beaker", client)
