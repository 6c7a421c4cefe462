"""Why a job fails without an exit of its own."""

from __future__ import annotations


class JobFailure(Exception):
    """A job cannot be run, or its results cannot be kept. ``message`` is for its author to read."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class ClosingError(Exception):
    """The server goes: leave everything as it is."""
