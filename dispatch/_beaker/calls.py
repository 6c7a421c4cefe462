"""One call to Beaker: repeated while that can help and we have patience, and its errors as ours.

All that we send may be sent twice: names make creation idempotent, the rest sets what it sets.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
import requests
from beaker import exceptions as theirs

from dispatch._beaker.client import Limit, Unavailable, is_passing
from dispatch._beaker.door import PATIENCE
from dispatch._beaker.problems import (
    BeakerConflictError,
    BeakerDamagedError,
    BeakerDeniedError,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
    BeakerUntrustedError,
)

T = TypeVar("T")

# A server that answers, and says that it failed, may say so to the end of days.
PATIENCE_FAILING = 30.0
_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CODE = re.compile(r"\[code=(\d+)\]")
# What is the matter with a certificate stays the matter.
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|Hostname Verification")
# What the vendors' libraries say around the fact.
_AROUND = re.compile(r"failed to connect to all addresses; last error: [A-Z_]+: (?:ipv[46]:)?")
_INNERMOST = re.compile(
    r"HTTPS?Connection.*?(\[Errno -?\d+\] [^'\")]+|Read timed out|timed out|[a-z ]+ timeout=[^'\")]+)"
)
TRUST = (
    "see that the address is Beaker's; where its certificates have an authority of their own, name that in"
    " GRPC_DEFAULT_SSL_ROOTS_FILE_PATH and REQUESTS_CA_BUNDLE (`dispatch beaker env` does for the local one)"
)
NO_BEAKER = "see that the address is Beaker's, and that nothing on the way answers in its place"
TOKEN = 'get a new token, and set BEAKER_TOKEN; for the local Beaker `eval "$(dispatch beaker env)"`'


class Calls:
    """Calls a server at ``address`` for up to ``patience`` seconds, and never longer than ``limit``."""

    def __init__(
        self,
        address: str,
        patience: float = PATIENCE,
        limit: Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self.patience = patience
        self._limit = limit or Limit()
        self._clock = clock
        self._closed = threading.Event()

    def __call__(self, what: str, call: Callable[[], T], patience: float | None = None) -> T:
        """Return what ``call`` returns. ``what`` names the thing for messages.

        :raises BeakerError: one of its kinds
        """
        patience = self.patience if patience is None else patience
        if self._limit.patience is not None:
            patience = min(patience, self._limit.patience)
        began = self._clock()
        patience = self._limit.left(patience)
        tries = 0
        while True:
            try:
                return call()
            except BeakerError:
                raise
            except Exception as error:
                if not is_transient(error):
                    raise translated(what, error) from error
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)] * (0.75 + random.random() / 2)
                tries += 1
                most = min(patience, PATIENCE_FAILING) if _is_failing(error) else patience
                if self._clock() + pause > began + most or self._closed.wait(pause):
                    raise self._unreachable(what, error) from error

    def close(self) -> None:
        """End all waiting: a call that would be repeated fails instead."""
        self._closed.set()

    def _unreachable(self, what: str, error: Exception) -> BeakerUnreachableError:
        return BeakerUnreachableError(
            f"Beaker at {self._address} does not answer: {what}: {words(error)}",
            "see that it is up and can be reached, then repeat the command; finished steps are kept",
        )


def is_transient(error: Exception) -> bool:
    """Whether the same call may well succeed in a moment."""
    if _is_untrusted(error):
        return False
    if isinstance(error, (Unavailable, theirs.BeakerServerError)) or is_passing(error):
        return True
    if isinstance(error, requests.RequestException):
        response = error.response
        if response is None:
            # Those that are values too are of addresses that are none, and of answers that are no JSON.
            return not isinstance(error, ValueError)
        return response.status_code in _AGAIN
    found = _CODE.match(str(error)) if isinstance(error, theirs.BeakerError) else None
    return found is not None and int(found[1]) in _AGAIN


def _is_failing(error: Exception) -> bool:
    if isinstance(error, requests.RequestException):
        return error.response is not None and error.response.status_code == 500
    return isinstance(error, theirs.BeakerServerError)


def _is_untrusted(error: Exception) -> bool:
    return (
        isinstance(error, (Unavailable, requests.exceptions.SSLError))
        and _UNTRUSTED.search(str(error)) is not None
    )


def translated(what: str, error: Exception) -> Exception:
    """An error of the vendor's as ours; whatever else it is, as it is."""
    if _is_untrusted(error):
        return BeakerUntrustedError(f"Beaker's certificate is not trusted: {what}: {words(error)}", TRUST)
    if isinstance(error, (theirs.BeakerNotFoundError, FileNotFoundError)):
        return BeakerNotFoundError(f"{what}: is not on Beaker")
    if isinstance(error, (theirs.BeakerNameConflictError, theirs.BeakerDatasetWriteError)):
        return BeakerConflictError(f"{what}: {words(error)}")
    if isinstance(error, theirs.BeakerChecksumFailedError):
        return BeakerDamagedError(f"{what}: {words(error)}", "repeat the command")
    if isinstance(error, theirs.BeakerPermissionsError):
        return BeakerDeniedError(f"{what}: Beaker refuses: {words(error)}", TOKEN)
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return _of_status(what, error)
    if isinstance(error, theirs.BeakerError):
        found = _CODE.match(str(error))
        return _of_code(what, int(found[1]) if found else 0, words(error))
    if isinstance(error, requests.RequestException) and error.response is not None:
        return _of_code(what, error.response.status_code, words(error))
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return BeakerError(f"{what}: what answers is not Beaker: it sends no JSON", NO_BEAKER)
    if isinstance(error, (ValueError, NotImplementedError)):
        return BeakerError(f"{what}: {words(error)}")
    return error


def _of_status(what: str, error: grpc.Call) -> BeakerError:
    if error.code() is grpc.StatusCode.ALREADY_EXISTS:
        return BeakerConflictError(f"{what}: {error.details()}")
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return BeakerDeniedError(f"{what}: Beaker refuses: {error.details()}", TOKEN)
    return BeakerError(f"{what}: {error.details()}")


def _of_code(what: str, code: int, text: str) -> BeakerError:
    if code in (401, 403):
        return BeakerDeniedError(f"{what}: Beaker refuses: {text}", TOKEN)
    kind = {404: BeakerNotFoundError, 409: BeakerConflictError}.get(code, BeakerError)
    return kind(f"{what}: {text}")


def words(error: Exception) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    found = _INNERMOST.search(text)
    return found[1] if found else _AROUND.sub("", text)
