"""What an executor is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dispatch.registrable import Registrable

if TYPE_CHECKING:
    from dispatch.dispatcher import StepOutcome
    from dispatch.plan import RunPlan


class Executor(Registrable):
    """Runs a planned graph. The dispatcher is the same for all; engines and jobs differ."""

    default_implementation = "docker"

    @abstractmethod
    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """Bring every step that is to run to a verdict; those that get no job are not in the answer."""

    @abstractmethod
    def cancel(self, names: Sequence[str] | None, grace: float | None) -> None:
        """Stop these steps, or without names the whole run as an interrupt does; from any thread.

        Jobs are given ``grace`` seconds to stop, None for the usual.
        """


# The one that is made in a program; it lies above all that is needed to run one.
Executor.register_lazy("beaker", "dispatch.beaker:BeakerExecutor")
