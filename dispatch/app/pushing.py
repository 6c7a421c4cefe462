"""The images of one configuration in a registry: which are there, and how those come there that are not.

Owns the order of looking: the registry first, so that who finds everything there needs no engine. Each image
is looked for there whatever the engine holds: a push that failed is made up for by the next one. Refuses to
push what others made: whoever runs it pulls it by its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from dispatch.app.wish import WISH, Wish
from dispatch.environment import DockerImage, ImageRef, LocalId, RegistryDigest
from dispatch.errors import DispatchError
from dispatch.image.config import is_image_of
from dispatch.image.plan import BuildPlan, Generated, ImagePlan, Pinned
from dispatch.image.ports import SharedImages
from dispatch.image.report import BuildReport
from dispatch.reporting import Reporter


class Buildable(Protocol):
    """The images of one configuration (``images.Images``)."""

    def recipes(self, names: Iterable[str]) -> BuildPlan:
        """Say what the named images are, as far as that is known without an engine."""

    def plan(self, names: Iterable[str], wish: Wish = WISH) -> BuildPlan:
        """Say of the named images what building would do."""

    def build(self, plan: BuildPlan, wish: Wish = WISH) -> BuildReport:
        """Carry out a plan; what failed is in the report."""


@dataclass(frozen=True)
class Pushed:
    """An image as others can have it: its name there, and what it is."""

    reference: str
    image: ImageRef


@dataclass(frozen=True)
class PushOutlook:
    """What pushing would do for a name; ``reference`` is empty while the digest is not known."""

    name: str
    there: bool
    reference: str

    @property
    def line(self) -> str:
        """The same for people."""
        if self.there:
            return f"{self.name}: in the registry: {self.reference}"
        return f"{self.name}: push" + (f" as {self.reference}" if self.reference else "")

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        action = "present" if self.there else "push"
        return {"name": self.name, "action": action, "reference": self.reference or None}


class Pushing:
    """Looks for images in a registry, and pushes. Making one sends nothing.

    Errors of the registry are raised by :meth:`outlook`, and in the report of :meth:`provide`.
    """

    def __init__(self, images: Buildable, shared: SharedImages, say: Reporter) -> None:
        self._images = images
        self._shared = shared
        self._say = say

    def outlook(self, names: Iterable[str]) -> list[PushOutlook]:
        """Say of each of the named images what :meth:`provide` would do, and do nothing."""
        plan = self._images.recipes(names)
        looked = []
        for name in plan.names:
            found, planned = self._found(plan, name), plan.of(name)
            reference = found.reference if found else self._reference(planned, name)
            looked.append(PushOutlook(name, found is not None, reference))
        return looked

    def provide(self, names: Iterable[str], wish: Wish = WISH) -> BuildReport:
        """Have all of the named images in the registry; what failed is in the report.

        What is not there is built here and pushed, as ``wish`` says.
        """
        wanted = list(dict.fromkeys(names))
        found: dict[str, Pushed] = {}
        if not wish.again:
            recipes = self._images.recipes(wanted)
            looked = {name: self._found(recipes, name) for name in recipes.names}
            found = {name: each for name, each in looked.items() if each is not None}
        failures: dict[str, DispatchError] = {}
        missing = [name for name in wanted if name not in found]
        if missing:
            built = self._images.build(self._images.plan(missing, wish), wish)
            failures.update(built.failures)
            for name, each in self._pushed(built.images, wish).items():
                if isinstance(each, DispatchError):
                    failures[name] = each
                else:
                    found[name] = each
        images = {name: found[name].image for name in wanted if name in found}
        return BuildReport(images, {name: found[name].reference for name in images}, failures)

    def _reference(self, planned: ImagePlan, name: str) -> str:
        tag = planned.tags[name].rpartition(":")[2]
        return f"{self._shared.repository}:{tag}" if tag else ""

    def _found(self, plan: BuildPlan, name: str) -> Pushed | None:
        """Return what others can have of a name now."""
        planned = plan.of(name)
        source = planned.source
        if isinstance(source, DockerImage):
            return Pushed(source.reference, RegistryDigest(source.reference))
        if isinstance(source, Pinned):
            return Pushed(source.id.id, source.id)
        if not source.settled:
            return None
        image = self._shared.find(source.spec.tag(name), source.spec.platform)
        if image is None or not is_image_of(image.record, source.spec, None):
            return None
        return Pushed(self._reference(planned, name), RegistryDigest(image.reference))

    def _pushed(self, built: Mapping[str, ImageRef], wish: Wish) -> dict[str, Pushed | DispatchError]:
        """Push images of the engine, each digest's names one after another, and say what came of each."""
        # Planned anew: an image whose base had to be pulled has its digest only now.
        plan = self._images.plan(built)
        by_key: dict[str, list[str]] = {}
        for name, key in plan.names.items():
            by_key.setdefault(key, []).append(name)
        pool = ThreadPoolExecutor(wish.workers, thread_name_prefix="dispatch-push")
        first, *others = by_key.values() or [[]]
        try:
            # One goes first: what the others have in common with it, a base above all, is there then.
            done = self._push_all(plan, first, built, wish)
            running = [pool.submit(self._push_all, plan, names, built, wish) for names in others]
            return done | {name: each for future in running for name, each in future.result().items()}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _push_all(
        self, plan: BuildPlan, names: list[str], built: Mapping[str, ImageRef], wish: Wish
    ) -> dict[str, Pushed | DispatchError]:
        done: dict[str, Pushed | DispatchError] = {}
        for name in names:
            try:
                # What had no digest before its base was here may be there after all.
                there = None if wish.again else self._found(plan, name)
                done[name] = there or self._push(plan.of(name), name, built[name])
            except DispatchError as error:
                done[name] = error
        return done

    def _push(self, planned: ImagePlan, name: str, image: ImageRef) -> Pushed:
        assert isinstance(planned.source, Generated) and isinstance(image, LocalId)
        reference = self._reference(planned, name)
        self._say(f"{name}: pushing as {reference}")
        made = self._shared.push(name, planned.source.spec, image.id, self._say)
        self._say(f"{name}: pushed")
        return Pushed(reference, RegistryDigest(made.reference))
