"""What surrounds a step while it runs in a process of its own: its directory, its log, and no workspace."""

from __future__ import annotations

from dispatch.errors import StepStateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger
    from pathlib import Path
    from typing import NoReturn


class Stage:
    """The surroundings of one step. Nothing is imported until it is asked for: most steps never ask."""

    def __init__(self, name: str, work: str) -> None:
        self._name = name
        self._work = work

    def work_dir(self) -> Path:
        """Return the step's directory, made where missing."""
        from pathlib import Path

        path = Path(self._work)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def workspace(self) -> NoReturn:
        """Raise StepStateError: a workspace is never brought into a step's process."""
        raise StepStateError(
            f"step {self._name!r}: has no workspace, as it runs in a process or container of its own",
            "take the results of other steps as arguments, and return what is to be kept",
        )

    def logger(self, name: str) -> Logger:
        """Return a logger whose records from INFO on are in the step's log, which is what stderr becomes."""
        import logging

        found = logging.getLogger(name)
        if found.level == logging.NOTSET:
            found.setLevel(logging.INFO)
        # Not a handler of ours, which would print everything twice after a step has called basicConfig.
        fallback = logging.lastResort
        if fallback is not None and fallback.level > logging.INFO:
            fallback.setLevel(logging.INFO)
            fallback.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        return found
