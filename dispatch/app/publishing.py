"""The images of one configuration on Beaker: which are there, and how those come there that are not.

Owns the order of looking: Beaker first, so that who finds everything published needs no engine. Refuses to
publish what others made: Beaker fetches an image by its Docker reference itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch._beaker import BeakerDoor
from dispatch._beaker.preflight import preflight
from dispatch._docker import Door, ImageRecord
from dispatch._docker.images import Right, any_image
from dispatch.app.wish import WISH, Wish
from dispatch.environment import BeakerId, DockerImage, ImageRef, LocalId, RegistryDigest
from dispatch.errors import DispatchError
from dispatch.image.beaker import Publisher
from dispatch.image.plan import BuildPlan, Generated, Pinned
from dispatch.image.report import BuildReport
from dispatch.image.spec import tag_of
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch.app.images import Images


class NoStore:
    """An engine that holds nothing; see :meth:`dispatch.app.images.Images.recipes`."""

    def inspect_image(self, reference: str) -> ImageRecord | None:  # noqa: ARG002
        """See :class:`dispatch.image.ports.ImageStore`."""
        return None

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:  # noqa: ARG002
        """See :class:`dispatch.image.ports.ImageStore`."""
        return None

    def prepare_load(self) -> None:
        """See :class:`dispatch.image.ports.ImageStore`."""

    def load(self, chunks: Iterable[bytes]) -> None:  # noqa: ARG002
        """See :class:`dispatch.image.ports.ImageStore`."""
        raise AssertionError("a plan changes nothing")

    def tag(self, image_id: str, repository: str, tag: str) -> None:  # noqa: ARG002
        """See :class:`dispatch.image.ports.ImageStore`."""
        raise AssertionError("a plan changes nothing")

    def pull(self, reference: str, report: Reporter) -> ImageRecord:  # noqa: ARG002
        """See :class:`dispatch.image.ports.ImageStore`."""
        raise AssertionError("a plan changes nothing")


@dataclass(frozen=True)
class Outlook:
    """What publishing would do for a name. ``reference`` is what jobs can have now, None where that is
    nothing yet; ``tag`` is the name that it would get, empty while the base is not there that decides it."""

    name: str
    reference: str | None
    tag: str = ""

    @property
    def line(self) -> str:
        """The same for people."""
        if self.reference is not None:
            return f"{self.name}: on Beaker: {self.reference}"
        named = f" as {self.tag}" if self.tag else "; its digest is known when its base was pulled"
        return f"{self.name}: publish{named}"

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        action = "publish" if self.reference is None else "present"
        return {"name": self.name, "action": action, "reference": self.reference, "tag": self.tag or None}


class Publishing:
    """Looks for images on Beaker, and publishes. Making one sends nothing."""

    def __init__(self, images: Images, beaker: BeakerDoor, engine: Door, locks: Path, say: Reporter) -> None:
        self._images = images
        self._beaker = beaker
        self._given_up = threading.Event()
        self._publisher = Publisher(beaker, engine, locks, lambda: not self._given_up.is_set())
        self._say = say

    def check(self) -> None:
        """Find out within seconds whether Beaker is there, lets us in and has the workspace."""
        preflight(self._beaker)

    def found(self, names: Iterable[str]) -> dict[str, ImageRef]:
        """Return those of the named images that jobs on Beaker can have now. No engine is asked.

        Raises what planning raises; ImageError for an image of Beaker that is not there.
        """
        plan = self._images.recipes(names)
        images = {name: self._on_beaker(plan, name) for name in plan.names}
        return {name: image for name, image in images.items() if image is not None}

    def outlook(self, names: Iterable[str]) -> list[Outlook]:
        """Say of each of the named images what :meth:`provide` would do, and do nothing."""
        plan = self._images.recipes(names)
        looked = []
        for name in plan.names:
            image = self._on_beaker(plan, name)
            digest = plan.of(name).digest
            tag = tag_of(name, digest) if digest is not None and image is None else ""
            looked.append(Outlook(name, None if image is None else reference(image), tag))
        return looked

    def provide(self, names: Iterable[str], wish: Wish = WISH) -> BuildReport:
        """Return all of the named images as jobs on Beaker can have them; what failed is in the report.

        What is not there is built here and published, as ``wish`` says.
        """
        wanted = list(dict.fromkeys(names))
        found = self.found(wanted)
        missing = [name for name in wanted if name not in found]
        failures: dict[str, DispatchError] = {}
        if missing:
            built = self._images.build(self._images.plan(missing, wish), wish)
            failures.update(built.failures)
            made = self._publish(built.images, wish.workers)
            found.update((name, each) for name, each in made.items() if isinstance(each, BeakerId))
            failures.update((name, each) for name, each in made.items() if isinstance(each, DispatchError))
        images = {name: found[name] for name in wanted if name in found}
        return BuildReport(images, {name: reference(image) for name, image in images.items()}, failures)

    def _on_beaker(self, plan: BuildPlan, name: str) -> ImageRef | None:
        planned = plan.of(name)
        if isinstance(planned.source, DockerImage):
            return RegistryDigest(planned.source.reference)
        if isinstance(planned.source, Pinned):
            return planned.source.id
        image = self._publisher.find(planned.digest) if planned.digest is not None else None
        return None if image is None else BeakerId(image.id)

    def _publish(self, built: Mapping[str, ImageRef], workers: int) -> dict[str, BeakerId | DispatchError]:
        """Publish images of the engine, each digest once, and return what came of each name."""
        # Planned anew: an image whose base had to be pulled has its digest only now.
        plan = self._images.plan(built)
        by_key = {plan.names[name]: name for name in plan.names}
        pool = ThreadPoolExecutor(workers, thread_name_prefix="dispatch-publish")
        try:
            running = {
                key: pool.submit(self._publish_one, plan, name, built[name]) for key, name in by_key.items()
            }
            ended = {key: each.result() for key, each in running.items()}
        except BaseException:
            self._given_up.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return {name: ended[key] for name, key in plan.names.items()}

    def _publish_one(self, plan: BuildPlan, name: str, image: ImageRef) -> BeakerId | DispatchError:
        source = plan.of(name).source
        assert isinstance(source, Generated) and isinstance(image, LocalId)
        spec = source.spec
        try:
            return self._publisher.publish(name, spec.digest, spec.lock, image, self._say)
        except DispatchError as error:
            return error


def reference(image: ImageRef) -> str:
    """Return an image as it is named to Beaker."""
    return image.reference if isinstance(image, RegistryDigest) else image.id
