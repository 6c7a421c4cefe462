"""What goes wrong at a registry, as our errors."""

from __future__ import annotations

from dispatch.errors import ImageError


class RegistryError(ImageError):
    """A registry refuses, or answers what cannot be understood."""


class RegistryUnreachableError(RegistryError):
    """The registry did not answer within our patience: it is down, or the line to it is."""


class RegistryUntrustedError(RegistryUnreachableError):
    """Whoever answers at the registry's address does not prove to be the registry."""


class RegistryDeniedError(RegistryError):
    """The login is missing or not known, or may not do this."""


class RegistryNotFoundError(RegistryError):
    """There is no such image, blob or repository."""


class RegistryFullError(RegistryError):
    """The registry has no room, or a quota is used up."""


class RegistryDamagedError(RegistryError):
    """What was received is not what its digest says."""


class GivenUpError(RegistryError):
    """Nobody wants the transfer any more."""


class RegistryBusyError(RegistryUnreachableError):
    """The registry may answer if it is asked again: it is overloaded, or the line to it broke.

    ``after`` are the seconds that it asks us to wait, 0 where it says nothing.
    """

    def __init__(self, message: str, remedy: str = "", after: float = 0.0) -> None:
        super().__init__(message, remedy)
        self.after = after


class RegistryAbsentError(RegistryBusyError):
    """Nobody listens at the registry's address: it is not there, or just being started again."""
