"""What a build came to, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.environment import ImageRef
from dispatch.errors import DispatchError, ImageError
from dispatch.image.plan import Action, BuildPlan


@dataclass(frozen=True)
class Done:
    """What was done for an image, and how long that took, with the wait for what it stands on."""

    action: Action
    seconds: float = 0.0


PRESENT = Done(Action.PRESENT)


@dataclass(frozen=True)
class BuildReport:
    """What a build came to, by the names that were asked for.

    ``images`` and ``references`` (``dispatch:<tag>``, or the declared reference) hold what is ready,
    ``failures`` why the rest is not: where a base failed, its own error for each name that stands on it.
    ``done`` says what it took.
    """

    images: Mapping[str, ImageRef]
    references: Mapping[str, str]
    failures: Mapping[str, DispatchError]
    done: Mapping[str, Done] = field(default_factory=dict)

    def raise_failures(self) -> None:
        """Raise if anything failed: the error itself where there is one, else one that lists them."""
        errors = list(dict.fromkeys(self.failures.values()))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            remedies = dict.fromkeys(error.remedy for error in errors if error.remedy)
            lines = [f"{name}: {error.message}" for name, error in self.failures.items()]
            raise ImageError(f"{len(lines)} images failed\n  " + "\n  ".join(lines), "; ".join(remedies))


def report_present(plan: BuildPlan) -> BuildReport | None:
    """Return the report of a plan with nothing to do; None where there is."""
    images: dict[str, ImageRef] = {}
    for name in plan.names:
        image = plan.of(name)
        if image.image is None or image.missing_tags:
            return None
        images[name] = image.image
    references = {name: plan.of(name).tags[name] for name in plan.names}
    return BuildReport(images, references, {}, dict.fromkeys(plan.names, PRESENT))
