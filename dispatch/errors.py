"""The tree of errors, and nothing else.

Every error names the thing and the fact in its message, and the way out in ``remedy``; how it is
printed and which exit code it becomes is decided by ``cli`` alone.

::

    DispatchError
    ├── ConfigurationError        what the user wrote cannot mean anything
    │   ├── LockError             a lock is missing or does not fit its inputs
    │   │   └── StaleBaseError    the archive has dropped what a base's lock names
    │   └── SourceError           the source repository cannot be used as it is
    ├── StepError                 a step failed; the fault is in the step
    ├── RemoteError               a remote of the repository does not answer
    ├── EngineError               the engine is absent, refuses, or broke off
    │   ├── ResourceAssignmentError               not now
    │   └── UnrecoverableResourceAssignmentError  never
    ├── ImageError                an image cannot be built, found or verified
    │   └── BaseVanishedError     what it stands on was removed meanwhile
    ├── WorkspaceError            results or records cannot be read or written
    │   └── StepStateError        a step is not in the state the caller believes
    └── FormatError               a result cannot be written or read in its format
"""

from __future__ import annotations


class DispatchError(Exception):
    """Base of all errors that a user may meet.

    ``message`` names the thing and the fact in one line where possible; ``remedy`` says what to do,
    and is empty only where nothing can be done.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigurationError(DispatchError):
    """What the user wrote (config, settings, declaration, arguments) cannot be carried out."""


class LockError(ConfigurationError):
    """A lock is missing, or no longer fits the inputs it was made from."""


class StaleBaseError(LockError):
    """The archive no longer holds a package that the lock of a base names."""


class SourceError(ConfigurationError):
    """The source repository is not in a state from which a step can be run."""


class RemoteError(DispatchError):
    """A remote of the source repository cannot be reached, or broke off."""


class StepError(DispatchError):
    """A step failed: its own code raised, or its command exited with an error."""


class EngineError(DispatchError):
    """The engine is missing, refuses us, or stopped answering."""


class ResourceAssignmentError(EngineError):
    """There is no room for the step at the moment; there may be later."""


class UnrecoverableResourceAssignmentError(EngineError):
    """No machine of the engine can ever hold the step."""


class ImageError(DispatchError):
    """An image cannot be built, found or verified."""


class BaseVanishedError(ImageError):
    """What an image was to be made on was removed from the engine meanwhile."""


class WorkspaceError(DispatchError):
    """Results or records of the workspace cannot be read or written."""


class StepStateError(WorkspaceError):
    """A step is in another state than the operation needs."""


class FormatError(DispatchError):
    """A result cannot be written or read in the format that was asked for."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known word, or an empty string."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
