"""What goes wrong at Beaker, as our errors."""

from __future__ import annotations

from dispatch.errors import EngineError


class BeakerError(EngineError):
    """Beaker refuses, or answers what cannot be understood."""


class BeakerUnreachableError(BeakerError):
    """Beaker did not answer within our patience: it is down, or the line to it is."""


class BeakerUntrustedError(BeakerUnreachableError):
    """Whoever answers at Beaker's address does not prove to be Beaker."""


class BeakerDeniedError(BeakerError):
    """The token is not known, was revoked, or may not do this."""


class BeakerNotFoundError(BeakerError):
    """There is no such thing, or none any more."""


class BeakerConflictError(BeakerError):
    """The name is taken, or the thing is not in a state for this."""


class BeakerDamagedError(BeakerError):
    """What was received is not what the digest says."""
